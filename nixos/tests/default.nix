# Each test boots machines of its own: `nix build .#checks.x86_64-linux.vm-boot`.
{ pkgs }:
let
  test = pkgs.testers.runNixOSTest;
in
{
  boot = test ./boot.nix;
  corruption = test ./corruption.nix;
  crash = test ./crash.nix;
  generation = test ./generation.nix;
  hardening = test ./hardening.nix;
  shutdown = test ./shutdown.nix;
  upgrade = test ./upgrade.nix;
  writable = test ./writable.nix;
}
