# What the parts of the module share.
{
  config,
  lib,
  pkgs,
  utils,
}:
let
  cfg = config.services.tvix-store-mount;
  toml = pkgs.formats.toml { };
  canRun = pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform;
in
rec {
  inherit cfg toml;

  # All that must outlive the store lies here: a tmpfs that switch-root carries over.
  runDir = "/run/tvix-store-mount";
  program = "${runDir}/bin/store-mountd";
  programConfig = "${runDir}/boot.toml";
  controlSocket = "${runDir}/mount.sock";
  lower = "${runDir}/lower";

  # Where our file system is mounted; under the overlay if there is one.
  mountPoint = if cfg.writable.enable then lower else cfg.mountPoint;

  # From the initrd, the main system's directories are below /sysroot; /run is the same.
  inInitrd = path: if lib.hasPrefix "/run/" path then path else "/sysroot${path}";

  # The units do nothing on a machine booted with tvix-store-mount=off.
  kernelSwitch = "!tvix-store-mount=off";

  # The configuration of `store-mountd mount`, checked by the program itself.
  configFile =
    name: paths:
    let
      source = toml.generate name (lib.filterAttrs (_: value: value != null) (cfg.settings // paths));
    in
    if canRun then
      pkgs.runCommand name { inherit source; } ''
        ${lib.getExe cfg.package} check-config "$source"
        cp "$source" "$out"
      ''
    else
      source;

  mainConfig = configFile "tvix-store-mount.toml" {
    store = cfg.storeDir;
    mountpoint = mountPoint;
  };

  initrdConfig = configFile "tvix-store-mount-initrd.toml" {
    store = inInitrd cfg.storeDir;
    mountpoint = inInitrd mountPoint;
  };

  # An ExecStart: the program's argv[0] begins with '@', which systemd-shutdown spares.
  mountCommand =
    {
      program,
      config,
    }:
    [
      ""
      (lib.concatStringsSep " " (
        [ "@${program} @store-mountd mount --config ${config}" ]
        ++ map utils.escapeSystemdExecArg cfg.extraFlags
      ))
    ];

  # The daemon's unit depends on nothing that an upgrade of the system changes.
  noEnvironment = lib.mkForce {
    LOCALE_ARCHIVE = null;
    TZDIR = null;
  };

  # The mountpoint of the file system that has `path`.
  fileSystemOf =
    path:
    let
      holds = fs: fs.mountPoint == "/" || path == fs.mountPoint || lib.hasPrefix "${fs.mountPoint}/" path;
      longer =
        best: fs: if lib.stringLength fs.mountPoint > lib.stringLength best then fs.mountPoint else best;
    in
    lib.foldl' longer "/" (lib.filter holds (lib.attrValues config.fileSystems));
}
