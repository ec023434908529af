# The life of a generation: A on the disk, the store enabled, B, back to A, B collected.
{
  nodes.machine =
    { pkgs, lib, ... }:
    {
      system.switch.enable = true;
      boot.loader.systemd-boot.enable = true;
      boot.loader.timeout = 0;
      boot.initrd.systemd.enable = true;
      environment.systemPackages = [ (import ../../default.nix { inherit pkgs; }).mountd ];

      virtualisation = {
        memorySize = 1024;
        mountHostNixStore = false;
        useBootLoader = true;
        useEFIBoot = true;
      };

      # Their closures are on the disk from the beginning, as if they had been built on the machine.
      specialisation = {
        a.configuration = {
          imports = [ ../module.nix ];
          services.tvix-store-mount.enable = true;
          environment.etc.generation.text = "a";
        };
        b.configuration = {
          imports = [ ../module.nix ];
          services.tvix-store-mount.enable = true;
          environment.etc.generation.text = "b";
          # What only B has, so that its end is seen.
          environment.etc.ballast.source = pkgs.runCommand "ballast" { } "seq 4000000 > $out";
        };
        off.configuration = {
          imports = [ ../module.nix ];
          services.tvix-store-mount.enable = true;
          boot.kernelParams = lib.mkAfter [ "tvix-store-mount=off" ];
          environment.etc.generation.text = "off";
        };
      };
    };

  testScript = ''
    PROFILE = "/nix/var/nix/profiles/system"

    machine.wait_for_unit("multi-user.target")
    base = machine.succeed("readlink -f /run/current-system").strip()

    def generation(name: str) -> str:
        return machine.succeed(f"readlink -f {base}/specialisation/{name}").strip()

    a, b, off = generation("a"), generation("b"), generation("off")
    # All of them stay alive, and so are imported with the first.
    for name, system in ("base", base), ("off", off):
        machine.succeed(f"ln -s {system} /nix/var/nix/gcroots/{name}")

    def choose(system: str, verb: str = "boot") -> None:
        machine.succeed(f"nix-env --profile {PROFILE} --set {system}")
        machine.succeed(f"{PROFILE}/bin/switch-to-configuration {verb} >&2")

    def reboot_into(name: str) -> None:
        machine.shutdown()
        machine.start()
        runs_from_the_store(machine)
        assert machine.succeed("cat /etc/generation") == name

    def used() -> int:
        return int(machine.succeed("du -s -B1 /var/lib/tvix-store-mount").split()[0])

    with subtest("an incomplete closure fails, and the boot loader is left alone"):
        entries = machine.succeed("find /boot/loader | sort")
        victim = machine.succeed(f"readlink -f {a}/etc/generation").strip()
        machine.succeed("mount -o remount,rw,bind /nix/store", f"mv {victim} /nix/hidden")
        machine.succeed(f"nix-env --profile {PROFILE} --set {a}")
        machine.fail(f"{a}/bin/switch-to-configuration boot >&2")
        assert machine.succeed("find /boot/loader | sort") == entries
        machine.succeed(f"mv /nix/hidden {victim}", "mount -o remount,ro,bind /nix/store")

    with subtest("A is imported, and boots from the store"):
        choose(a)
        machine.succeed(f"store-mountd registration --closure {a} > /dev/null")
        reboot_into("a")

    with subtest("a switch to B under load, and B boots"):
        survives(machine, lambda: choose(b, "switch"))
        assert machine.succeed("cat /etc/generation") == "b"
        reboot_into("b")

    with subtest("back to A"):
        machine.succeed(f"nix-env --profile {PROFILE} --rollback")
        machine.succeed(f"{PROFILE}/bin/switch-to-configuration boot >&2")
        reboot_into("a")

    with subtest("B is collected, its space is freed, and A still boots"):
        machine.succeed("rm /nix/var/nix/gcroots/base")
        machine.succeed(f"nix-env --profile {PROFILE} --delete-generations old")
        before = used()
        machine.succeed("systemctl start tvix-store-mount-gc.service")
        assert before - used() > 20 << 20, f"{before} bytes before, {used()} after"
        machine.fail(f"test -e {b}")
        machine.fail(f"store-mountd info {b}")
        machine.succeed("store-mountd verify >&2")
        machine.succeed(f"nix-store --verify-path $(nix-store --query --requisites {a})")
        machine.succeed(f"{PROFILE}/bin/switch-to-configuration boot >&2")
        reboot_into("a")
        machine.fail(f"test -e {b}")

    with subtest("the store on the disk is still there"):
        choose(off)
        machine.shutdown()
        machine.start()
        machine.wait_for_unit("multi-user.target")
        assert machine.succeed("cat /etc/generation") == "off"
        kind = machine.succeed("findmnt -n -f -o FSTYPE --target /nix/store").strip()
        assert kind == "ext4", f"/nix/store is {kind}"
        machine.fail("systemctl is-active tvix-store-mount.service")
  '';
}
