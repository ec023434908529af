# An overlay over the store, so that Nix can add to it.
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
    lower
    ;
  inMemory = cfg.writable.upperDir == null;
  memory = "${storeMount.runDir}/upper";
  root = inInitrd (if inMemory then memory else cfg.writable.upperDir);
  arg = lib.escapeShellArg;

  early = {
    DefaultDependencies = false;
    ConditionKernelCommandLine = kernelSwitch;
  };
in
{
  config = lib.mkIf (cfg.enable && cfg.writable.enable) {
    boot.kernelModules = [ "overlay" ];
    boot.initrd.kernelModules = [ "overlay" ];

    boot.initrd.systemd = {
      mounts =
        lib.optional inMemory {
          what = "tmpfs";
          where = memory;
          type = "tmpfs";
          options = "mode=0755,size=${cfg.writable.tmpfsSize}";
          unitConfig = early;
        }
        ++ [
          {
            what = "overlay";
            where = inInitrd cfg.mountPoint;
            type = "overlay";
            options = "lowerdir=${lower},upperdir=${root}/store,workdir=${root}/work";
            requires = [
              "tvix-store-mount.service"
              "tvix-store-mount-upper.service"
            ];
            after = [
              "tvix-store-mount.service"
              "tvix-store-mount-upper.service"
            ];
            requiredBy = [ "initrd-fs.target" ];
            before = [ "initrd-fs.target" ];
            unitConfig = early;
          }
        ];

      services.tvix-store-mount-upper = {
        description = "Prepare What Is Added to the Store";
        requires = [ "tvix-store-mount.service" ];
        after = [ "tvix-store-mount.service" ];
        unitConfig = early // {
          IgnoreOnIsolate = true;
          RequiresMountsFor = root;
        };
        serviceConfig = {
          Type = "oneshot";
          RemainAfterExit = true;
        };
        # Garbage that was collected from the lower layer is marked in the upper one by a device 0,0.
        # What the store has is shown again, so that each generation in it can be booted; a mark of
        # what it has no more would hide that when it comes back.
        script = ''
          mkdir -p ${arg "${root}/store"} ${arg "${root}/work"}
          for mark in ${arg "${root}/store"}/*; do
            if [ -c "$mark" ]; then
              rm "$mark"
            fi
          done
        '';
      };
    };
  };
}
