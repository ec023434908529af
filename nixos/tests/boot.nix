# A machine boots from its store image alone.
{ pkgs, ... }:
{
  nodes.machine = {
    imports = [ ./common/node.nix ];
    # The whole of it from the mount, without an overlay.
    services.tvix-store-mount.writable.enable = false;
    nix.enable = false;
    tests.contents = [ pkgs.nix ];
  };

  testScript = ''
    import json

    runs_from_the_store(machine, "/nix/store")

    with subtest("paths have the contents that they were imported with"):
        machine.succeed("store-mountd verify >&2")
        system = machine.succeed("readlink -f /run/current-system").strip()
        known = json.loads(machine.succeed(f"store-mountd info --json {system}"))["narHash"]
        served = machine.succeed(f"${pkgs.nix}/bin/nix-hash --type sha256 --sri {system}").strip()
        assert served == known, f"{served} is served, {known} was imported"

    with subtest("nobody writes"):
        machine.fail("touch /nix/store/x")
        machine.fail("rm -r /run/current-system/sw")
  '';
}
