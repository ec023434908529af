# The processes that serve the running system are killed under load.
{
  nodes.machine = ./common/node.nix;

  testScript = ''
    runs_from_the_store(machine)

    with subtest("the worker is killed"):
        def kill_workers() -> None:
            for _ in range(5):
                _, worker = serving_pids(machine)
                machine.succeed(f"kill -KILL {worker}")
                machine.wait_until_fails(f"test -d /proc/{worker}")
        survives(machine, kill_workers)

    with subtest("the supervisor is killed"):
        def kill_supervisor() -> None:
            supervisor, _ = serving_pids(machine)
            machine.succeed(f"kill -KILL {supervisor}")
            machine.wait_for_unit("tvix-store-mount.service")
        survives(machine, kill_supervisor)

    runs_from_the_store(machine)
  '';
}
