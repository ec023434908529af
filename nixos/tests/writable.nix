# Nix works on the overlay: it knows what the store has, builds on top, and collects garbage.
{ pkgs, ... }:
let
  # Built inside the machine, by what its store has.
  expression = pkgs.writeText "expression.nix" ''
    derivation {
      name = "built-on-top";
      system = builtins.currentSystem;
      builder = "${pkgs.pkgsStatic.busybox}/bin/sh";
      args = [ "-c" "echo built > $out" ];
    }
  '';
in
{
  nodes.machine = {
    imports = [ ./common/node.nix ];
    tests.contents = [
      expression
      pkgs.pkgsStatic.busybox
    ];
    nix.settings.substituters = pkgs.lib.mkForce [ ];
    nix.settings.sandbox = false;
  };

  testScript = ''
    runs_from_the_store(machine)
    system = machine.succeed("readlink -f /run/current-system").strip()

    with subtest("what the store has is registered and valid"):
        machine.wait_for_unit("tvix-store-mount-register.service")
        machine.succeed(f"nix-store --query --requisites {system} >&2")
        machine.succeed(f"nix-store --verify-path $(nix-store --query --requisites {system})")
        machine.succeed("nix-store --verify >&2")

    with subtest("Nix builds on top"):
        built = machine.succeed("nix-build --out-link /var/tmp/result ${expression}").strip()
        assert machine.succeed(f"cat {built}").strip() == "built"

    with subtest("what is imported appears"):
        machine.succeed("echo imported > /tmp/imported")
        path = machine.succeed("store-mountd import /tmp/imported").strip()
        assert machine.succeed(f"cat {path}").strip() == "imported"

    with subtest("garbage is collected, and the system stays"):
        machine.succeed("rm /var/tmp/result && nix-collect-garbage >&2")
        machine.fail(f"test -e {built}")
        machine.succeed(f"nix-store --verify-path {system}")
        machine.shutdown()
        machine.start()
        runs_from_the_store(machine)
  '';
}
