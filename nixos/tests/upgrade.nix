# A switch to another generation replaces the daemon under load and ends nothing.
{
  nodes.machine =
    { lib, pkgs, ... }:
    {
      imports = [ ./common/node.nix ];
      specialisation.next.configuration = {
        environment.etc.generation.text = "next";
        services.tvix-store-mount.settings.log-level = "debug";
        # Another build of the daemon, as a new version is.
        services.tvix-store-mount.package = lib.mkForce (
          (import ../../default.nix { inherit pkgs; }).mountd.overrideAttrs { version = "next"; }
        );
      };
    };

  testScript = ''
    runs_from_the_store(machine)
    supervisor, worker = serving_pids(machine)
    before = machine.succeed("readlink -f /run/current-system").strip()

    def switch() -> None:
        machine.succeed(f"{before}/specialisation/next/bin/switch-to-configuration test >&2")

    survives(machine, switch)
    assert machine.succeed("cat /etc/generation") == "next"

    with subtest("the mount is the same, served by another worker"):
        _, after = serving_pids(machine)
        assert after != worker, "the worker was not replaced"
        machine.succeed("systemctl is-active tvix-store-mount.service")
        machine.succeed(
            "cmp /run/tvix-store-mount/bin/store-mountd "
            "$(readlink -f /run/current-system/sw/bin/store-mountd)"
        )

    with subtest("nothing stops it"):
        machine.fail("systemctl stop tvix-store-mount.service")
        runs_from_the_store(machine)
  '';
}
