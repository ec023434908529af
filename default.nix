# Everything that Nix makes of this project, for one system. flake.nix has the same for several.
{
  system ? builtins.currentSystem,
  pkgs ? import <nixpkgs> { inherit system; },
}:
let
  inherit (pkgs) lib;
in
rec {
  mountd = pkgs.pkgsStatic.callPackage ./nix/package.nix { };
  default = mountd;

  # storeImage { contents = [ … ]; format = "directory" | "erofs" | "ext4"; … }
  storeImage = pkgs.callPackage ./nix/store-image.nix { inherit mountd; };

  module = ./nixos/module.nix;

  # The tests of the module, each in virtual machines.
  tests = import ./nixos/tests { inherit pkgs; };

  checks =
    import ./nix/checks.nix { inherit pkgs mountd; }
    // lib.mapAttrs' (name: lib.nameValuePair "vm-${name}") tests;

  # cargo xtask demo, test and bench.
  shell = pkgs.mkShell {
    packages = with pkgs; [
      attr
      cargo
      cargo-deny
      cargo-nextest
      clippy
      deadnix
      e2fsprogs
      fuse3
      nixfmt
      rustc
      rustfmt
      statix
    ];
  };

  demo = pkgs.writeShellApplication {
    name = "store-mountd-demo";
    runtimeInputs = [
      mountd
      pkgs.nix
    ];
    text = builtins.readFile ./nix/demo.sh;
  };
}
