# The unit of the main system. It has the name of the initrd's, so the daemon goes on under it.
{
  lib,
  pkgs,
  utils,
  storeMount,
  ...
}:
let
  inherit (storeMount) cfg program programConfig;

  # The new program asks the old one to be replaced, and says why if it is not.
  upgrade = [
    ""
    "+${lib.getExe cfg.package} upgrade --socket ${utils.escapeSystemdExecArg cfg.settings.control-socket}"
  ];

  # A file is replaced as a whole, since PID 1 may need it at any moment.
  install = source: target: [
    "+${pkgs.coreutils}/bin/install -D -m 0555 ${source} ${target}.new"
    "+${pkgs.coreutils}/bin/mv -T ${target}.new ${target}"
  ];

  boot = {
    unitConfig = {
      # In place of the conditions of the shipped unit: /etc leads into the store, which PID 1 must
      # not wait for.
      ConditionKernelCommandLine = [
        ""
        storeMount.kernelSwitch
      ];
      # Never started here: it came from the initrd, or the machine runs from its disk.
      ConditionPathExists = program;
      RefuseManualStop = true;
    };
    serviceConfig = {
      ExecStart = storeMount.mountCommand {
        inherit program;
        config = programConfig;
      };
      # Only a program that serves takes the place of the one that PID 1 may need.
      ExecReload =
        upgrade ++ install (lib.getExe cfg.package) program ++ install storeMount.mainConfig programConfig;
    };
  };

  other = {
    wantedBy = [ "multi-user.target" ];
    unitConfig.RequiresMountsFor = [
      cfg.mountPoint
      cfg.storeDir
    ];
    serviceConfig = {
      ExecStartPre = "+${pkgs.coreutils}/bin/mkdir -p ${utils.escapeSystemdExecArg cfg.mountPoint}";
      ExecStart = storeMount.mountCommand {
        program = lib.getExe cfg.package;
        config = "/etc/tvix-store-mount/config.toml";
      };
      ExecReload = upgrade;
    };
  };

  # systemd would unmount what init itself is executed from.
  keepMounted = mountPoint: {
    "${utils.escapeSystemdPath mountPoint}.mount" = {
      overrideStrategy = "asDropin";
      text = ''
        [Unit]
        DefaultDependencies=no
      '';
    };
  };
in
{
  config = lib.mkIf cfg.enable {
    environment.systemPackages = [ cfg.package ];
    environment.etc."tvix-store-mount/config.toml".source = storeMount.mainConfig;

    systemd.packages = [ cfg.package ];
    systemd.services.tvix-store-mount = lib.mkMerge [
      {
        overrideStrategy = "asDropin";
        environment = storeMount.noEnvironment;
        # A switch to another generation upgrades the daemon and does not end it.
        restartIfChanged = false;
        stopIfChanged = false;
        reloadIfChanged = true;
        unitConfig.X-StopOnRemoval = false;
        # No signal in addition to what ExecReload does.
        serviceConfig.Type = "notify";
        restartTriggers = [ storeMount.mainConfig ];
      }
      (if cfg.bootFromStore then boot else other)
    ];

    systemd.units = lib.mkIf cfg.bootFromStore (
      keepMounted cfg.mountPoint // keepMounted storeMount.mountPoint
    );
  };
}
