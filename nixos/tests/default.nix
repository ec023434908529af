# Each test boots machines of its own: `nix build .#checks.x86_64-linux.vm-boot`.
{ pkgs }:
let
  test =
    name: module:
    pkgs.testers.runNixOSTest {
      imports = [
        ./common/test.nix
        module
      ];
      name = "tvix-store-mount-${name}";
    };
in
builtins.mapAttrs test {
  boot = ./boot.nix;
  corruption = ./corruption.nix;
  crash = ./crash.nix;
  generation = ./generation.nix;
  hardening = ./hardening.nix;
  shutdown = ./shutdown.nix;
  upgrade = ./upgrade.nix;
  writable = ./writable.nix;
}
