# The program, its manual pages and its unit. Static, if it is called from pkgsStatic.
{
  lib,
  stdenv,
  rustPlatform,
  installShellFiles,
  buildPackages,
}:
let
  workspace = (lib.importTOML ../Cargo.toml).workspace.package;
  canRun = stdenv.buildPlatform.canExecute stdenv.hostPlatform;
in
rustPlatform.buildRustPackage {
  pname = "store-mountd";
  inherit (workspace) version;

  src = import ./source.nix { inherit lib; };
  cargoLock.lockFile = ../Cargo.lock;
  cargoBuildFlags = [
    "--package"
    "store-mountd"
  ];
  buildType = "dist";

  # They need /dev/fuse: see the checks of the flake, and `cargo xtask test`.
  doCheck = false;

  nativeBuildInputs = [
    installShellFiles
    buildPackages.patchelf
  ];

  postInstall = ''
    install -Dm444 -t $out/lib/systemd/system systemd/*.service
    substituteInPlace $out/lib/systemd/system/*.service \
      --replace-fail /usr/bin/store-mountd $out/bin/store-mountd
  ''
  + lib.optionalString canRun ''
    $out/bin/store-mountd man man
    installManPage man/*
    for shell in bash fish zsh; do
      $out/bin/store-mountd completions $shell > store-mountd.$shell
    done
    installShellCompletion store-mountd.{bash,fish,zsh}
  '';

  # What it needs must not lie on the store that it serves.
  doInstallCheck = stdenv.hostPlatform.isStatic;
  installCheckPhase = ''
    if patchelf --print-interpreter $out/bin/store-mountd; then
      echo "store-mountd is linked dynamically" >&2
      exit 1
    fi
  '';

  meta = {
    description = "Serve a content-addressed Nix store as a file system, in place of /nix/store";
    license = with lib.licenses; [
      asl20
      mit
    ];
    mainProgram = "store-mountd";
    platforms = lib.platforms.linux;
  };
}
