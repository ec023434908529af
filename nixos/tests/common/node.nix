# A machine that boots from a store on a disk of its own; the host's store is not there.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  project = import ../../../default.nix { inherit pkgs; };
  cfg = config.tests;
  image = project.storeImage {
    name = "tvix-store.img";
    contents = [ config.system.build.toplevel ] ++ cfg.contents;
    format = "ext4";
  };
in
{
  imports = [ ../../module.nix ];

  options.tests.contents = lib.mkOption {
    type = lib.types.listOf lib.types.package;
    default = [ ];
    description = "What the store has beside the system.";
  };

  config = {
    services.tvix-store-mount.enable = true;
    boot.initrd.systemd.enable = true;
    # A failed boot is seen by the test, and its shell can be used.
    boot.initrd.systemd.emergencyAccess = true;
    system.switch.enable = true;

    virtualisation = {
      memorySize = 1024;
      mountHostNixStore = false;
      writableStore = false;
      fileSystems."/var/lib/tvix-store-mount" = {
        device = "/dev/disk/by-label/tvix-store";
        fsType = "ext4";
        neededForBoot = true;
      };
      # What a machine writes to it is gone with it.
      qemu.drives = [
        {
          name = "tvix-store";
          file = "${image}";
          driveExtraOpts = {
            format = "raw";
            snapshot = "on";
          };
        }
      ];
    };
  };
}
