# What does not go together, and what to do about it.
{
  config,
  lib,
  utils,
  storeMount,
  ...
}:
let
  inherit (storeMount)
    cfg
    fileSystemOf
    ;
  option = name: "services.tvix-store-mount.${name}";

  below = parent: path: path == parent || lib.hasPrefix "${parent}/" path;

  neededForBoot =
    name: path:
    let
      mountPoint = fileSystemOf path;
      fs = config.fileSystems.${mountPoint} or null;
    in
    {
      assertion = fs == null || utils.fsNeededForBoot fs;
      message = ''
        ${option name} is ${path}, on the file system ${mountPoint}, which is mounted after the
        initrd. Set fileSystems."${mountPoint}".neededForBoot = true.'';
    };

  managed = name: remedy: {
    assertion = !(cfg.settings ? ${name});
    message = "${option "settings.${name}"} is set by the module. Use ${option remedy} instead.";
  };
in
{
  config = lib.mkIf cfg.enable {
    assertions = [
      (managed "store" "storeDir")
      (managed "mountpoint" "mountPoint")
      {
        assertion = !below cfg.mountPoint cfg.storeDir;
        message = ''
          ${option "storeDir"} is ${cfg.storeDir}, which the mount at ${cfg.mountPoint} hides. Choose a
          directory outside of it.'';
      }
      {
        assertion = cfg.mountPoint == "/nix/store" -> cfg.bootFromStore;
        message = ''
          A service cannot be mounted over the /nix/store that the system runs from. Set
          ${option "bootFromStore"} = true, or choose another ${option "mountPoint"}.'';
      }
      {
        assertion = cfg.writable.enable -> cfg.bootFromStore;
        message = ''
          ${option "writable.enable"} needs a store that is mounted in the initrd. Set
          ${option "bootFromStore"} = true.'';
      }
      {
        assertion = cfg.writable.enable -> cfg.settings.list-root;
        message = ''
          Nix lists the store when it collects garbage, and would take every path for gone. Set
          ${option "listRoot"} = true, or ${option "writable.enable"} = false.'';
      }
      {
        assertion = cfg.registerPaths -> cfg.writable.enable;
        message = ''
          Nix does not open its database beside a read-only store. Set ${option "writable.enable"} = true,
          or ${option "registerPaths"} = false.'';
      }
      {
        assertion = !config.boot.isContainer;
        message = ''
          A container has no initrd and uses the /nix/store of its host: enable
          services.tvix-store-mount there.'';
      }
      {
        assertion = lib.versionAtLeast config.systemd.package.version "255";
        message = ''
          tvix-store-mount.service must be spared at shutdown, which systemd can do since version 255;
          systemd.package is ${config.systemd.package.version}.'';
      }
    ]
    ++ lib.optionals cfg.bootFromStore [
      {
        assertion = config.boot.initrd.systemd.enable;
        message = ''
          The store is mounted by a unit of the initrd. Set boot.initrd.systemd.enable = true, or
          ${option "bootFromStore"} = false and another ${option "mountPoint"}.'';
      }
      {
        assertion = !(config.fileSystems ? ${cfg.mountPoint});
        message = ''
          fileSystems."${cfg.mountPoint}" and services.tvix-store-mount both want to be mounted there.
          Remove the former.'';
      }
      (neededForBoot "storeDir" cfg.storeDir)
    ]
    ++ lib.optionals (cfg.writable.enable && cfg.writable.upperDir != null) [
      {
        assertion =
          !below cfg.mountPoint cfg.writable.upperDir && !below cfg.storeDir cfg.writable.upperDir;
        message = ''
          ${option "writable.upperDir"} is ${cfg.writable.upperDir}, inside the store. Choose a directory
          outside of ${cfg.mountPoint} and ${cfg.storeDir}, or null to keep it in memory.'';
      }
      (neededForBoot "writable.upperDir" cfg.writable.upperDir)
    ];

    warnings =
      lib.optional (cfg.bootFromStore && !cfg.writable.enable && config.nix.enable) ''
        Nix cannot add anything to a read-only /nix/store. Set ${option "writable.enable"} = true, or
        nix.enable = false.''
      ++
        lib.optional
          (
            cfg.writable.enable
            && (config.nix.optimise.automatic || config.nix.settings.auto-optimise-store or false)
          )
          ''
            Nix's deduplication copies files of ${option "storeDir"}, where equal files are stored once
            already, into ${option "writable.upperDir"}. Set nix.optimise.automatic = false and
            nix.settings.auto-optimise-store = false.'';
  };
}
