# What `nix flake check` builds, besides the virtual machines.
{ pkgs, mountd }:
let
  inherit (pkgs) lib;

  tree = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.difference ../. (
      lib.fileset.unions [
        (lib.fileset.maybeMissing ../target)
        (lib.fileset.maybeMissing ../fuzz/target)
      ]
    );
  };

  # Rust's tools on all of the workspace.
  cargo =
    name: tools: command:
    pkgs.rustPlatform.buildRustPackage {
      pname = "store-mountd-${name}";
      inherit (mountd) version;
      src = tree;
      cargoLock.lockFile = ../Cargo.lock;
      nativeBuildInputs = tools;
      dontInstall = true;
      doCheck = false;
      buildPhase = ''
        runHook preBuild
        ${command}
        touch "$out"
        runHook postBuild
      '';
    };

  check =
    name: tools: command:
    pkgs.runCommand name { nativeBuildInputs = tools; } ''
      cd ${tree}
      ${command}
      touch "$out"
    '';
in
{
  package = mountd;

  clippy = cargo "clippy" [ pkgs.clippy ] "cargo clippy --workspace --all-targets -- -D warnings";
  fmt = cargo "fmt" [ pkgs.rustfmt ] "cargo fmt --all --check";
  # Those that need no /dev/fuse.
  unit = cargo "unit" [ ] "cargo test --package nix-compat --package castore --package store";

  nix-fmt = check "nix-fmt" [ pkgs.nixfmt ] "find . -name '*.nix' -exec nixfmt --check {} +";
  nix-lint = check "nix-lint" [
    pkgs.deadnix
    pkgs.statix
  ] "deadnix --fail . && statix check .";

  module = pkgs.writeText "module" (
    builtins.toJSON (import ../nixos/tests/eval.nix { inherit pkgs; })
  );
  option-docs = check "option-docs" [ ] ''
    diff docs/nixos-options.md ${
      pkgs.writeText "nixos-options.md" (import ../nixos/options-doc.nix { inherit lib pkgs; })
    }
  '';
}
