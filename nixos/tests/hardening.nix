# The daemon is confined as far as one that mounts can be, and nothing hides its mount.
{
  nodes.machine = ./common/node.nix;

  testScript = ''
    import json

    runs_from_the_store(machine)

    with subtest("no option gives the unit a mount namespace of its own"):
        namespace = machine.succeed("readlink /proc/1/ns/mnt").strip()
        for pid in serving_pids(machine):
            own = machine.succeed(f"readlink /proc/{pid}/ns/mnt").strip()
            assert own == namespace, f"process {pid} mounts in {own}"

    with subtest("the worker has no capabilities"):
        _, worker = serving_pids(machine)
        effective = machine.succeed(f"grep CapEff: /proc/{worker}/status").split()[1]
        assert int(effective, 16) == 0, f"the worker has {effective}"
        machine.succeed(f"grep 'Seccomp:[[:space:]]*2' /proc/{worker}/status")

    with subtest("the unit's exposure"):
        # What is left is what a mount for all needs: CAP_SYS_ADMIN, root, no namespaces.
        # Below 5.0 systemd says "OK".
        machine.succeed("systemd-analyze security --threshold=50 tvix-store-mount.service >&2")
        rows = json.loads(
            machine.succeed("systemd-analyze security --json=short tvix-store-mount.service")
        )
        assert rows, "no rows"
  '';
}
