# The store in the initrd: mounted after the root file system, before the system is looked for.
{
  lib,
  storeMount,
  ...
}:
let
  inherit (storeMount)
    cfg
    inInitrd
    kernelSwitch
    program
    ;
  # Not the mountpoint itself: an overlay that is mounted there waits for these units.
  above = dirOf (inInitrd cfg.mountPoint);
in
{
  config = lib.mkIf (cfg.enable && cfg.bootFromStore) {
    boot.kernelModules = [ "fuse" ];
    boot.initrd.kernelModules = [ "fuse" ];

    boot.initrd.systemd = {
      packages = [ cfg.package ];
      storePaths = [ (lib.getExe cfg.package) ];
      contents = {
        "/etc/tvix-store-mount/config.toml".source = storeMount.initrdConfig;
        "/etc/tvix-store-mount/boot.toml".source = storeMount.mainConfig;
      };

      services.tvix-store-mount-prepare = {
        description = "Keep a Copy of store-mountd Outside of the Store";
        unitConfig = {
          DefaultDependencies = false;
          # What is required and stops takes with it who requires it, as switch-root would make it.
          IgnoreOnIsolate = true;
          RequiresMountsFor = above;
          ConditionKernelCommandLine = kernelSwitch;
        };
        serviceConfig = {
          Type = "oneshot";
          RemainAfterExit = true;
        };
        # The copies are what PID 1 starts if the supervisor dies in the main system.
        script = ''
          mkdir -p ${dirOf program} ${lib.escapeShellArg (inInitrd storeMount.mountPoint)}
          cp ${lib.getExe cfg.package} ${program}
          cp /etc/tvix-store-mount/boot.toml ${storeMount.programConfig}
        '';
      };

      services.tvix-store-mount = {
        overrideStrategy = "asDropin";
        environment = storeMount.noEnvironment;
        requires = [ "tvix-store-mount-prepare.service" ];
        after = [ "tvix-store-mount-prepare.service" ];
        requiredBy = [ "initrd-fs.target" ];
        before = [ "initrd-fs.target" ];
        unitConfig = {
          RequiresMountsFor = [
            above
            (inInitrd cfg.storeDir)
          ];
          ConditionKernelCommandLine = kernelSwitch;
        };
        serviceConfig = {
          ExecStart = storeMount.mountCommand {
            inherit program;
            config = "/etc/tvix-store-mount/config.toml";
          };
          # Not for a store that cannot be opened: that is told once, and not every five seconds over
          # what is typed in the emergency shell.
          Restart = "on-abnormal";
          # Who sees the emergency shell sees why.
          StandardError = "journal+console";
        };
      };

      # The rest is in the shipped unit, whose program is the one in the initrd.
      services.tvix-store-mount-check = {
        overrideStrategy = "asDropin";
        requiredBy = [ "initrd-fs.target" ];
        unitConfig = {
          # With another mountPoint, the file system that the system is on.
          RequiresMountsFor = "/sysroot/nix/store";
          ConditionKernelCommandLine = kernelSwitch;
        };
      };
    };
  };
}
