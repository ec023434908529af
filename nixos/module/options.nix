# What can be set.
{
  config,
  lib,
  pkgs,
  storeMount,
  ...
}:
let
  inherit (lib)
    literalExpression
    mkDefault
    mkEnableOption
    mkOption
    types
    ;
  cfg = config.services.tvix-store-mount;
  inherit (storeMount)
    toml
    controlSocket
    ;
in
{
  options.services.tvix-store-mount = {
    enable = mkEnableOption "a content-addressed store in place of /nix/store" // {
      description = ''
        Whether to run from a content-addressed store.

        The machine boots from what `store-mountd` serves. Each generation is
        imported before its entry in the boot loader is written. With
        `tvix-store-mount=off` on the kernel command line the machine boots from
        the {file}`/nix/store` on its disk.
      '';
    };

    package = lib.mkPackageOption (import ../../default.nix { inherit pkgs; }) "mountd" {
      pkgsText = "(import ./default.nix { inherit pkgs; })";
    };

    storeDir = mkOption {
      type = types.path;
      default = "/var/lib/tvix-store-mount";
      description = ''
        The directory that has the contents. It can be on a read-only medium,
        but not below {option}`mountPoint`. If the machine boots from the store,
        the file system of this directory must be needed for boot.
      '';
    };

    mountPoint = mkOption {
      type = types.path;
      default = "/nix/store";
      description = "Where the store is mounted.";
    };

    bootFromStore = mkOption {
      type = types.bool;
      default = cfg.mountPoint == "/nix/store";
      defaultText = literalExpression ''config.services.tvix-store-mount.mountPoint == "/nix/store"'';
      description = ''
        Whether to mount the store in the initrd, before the system is looked
        for in it. Without this it is mounted as a service among others.
      '';
    };

    listRoot = mkOption {
      type = types.bool;
      default = true;
      description = ''
        Whether the top directory can be listed. Nix lists it when it collects
        garbage, so a writable store needs this.
      '';
    };

    allowOther = mkOption {
      type = types.bool;
      default = true;
      description = "Whether others than root may use the mount.";
    };

    threads = mkOption {
      type = types.nullOr types.ints.positive;
      default = null;
      example = 8;
      description = ''
        How many requests to handle at a time. With null the program decides by
        the number of processors.
      '';
    };

    settings = mkOption {
      type = types.submodule {
        freeformType = toml.type;
        options = {
          integrity = mkOption {
            type = types.enum [
              "on-read"
              "at-rest"
            ];
            default = "on-read";
            description = ''
              Whether every byte is verified each time it is read from the store,
              or only when it is written and by `store-mountd verify`.
            '';
          };
          log-level = mkOption {
            type = types.enum [
              "off"
              "error"
              "warn"
              "info"
              "debug"
              "trace"
            ];
            default = "info";
            description = "How much goes to the journal.";
          };
        };
      };
      default = { };
      example = literalExpression ''
        {
          directory-cache = "64MiB";
          xattrs = true;
        }
      '';
      description = ''
        The configuration of `store-mountd mount`, as
        {file}`docs/configuration.md` of the project describes it. It is checked
        when the system is built.
      '';
    };

    extraFlags = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "--max-threads=64" ];
      description = "More flags of `store-mountd mount`. They have precedence over {option}`settings`.";
    };

    metrics = {
      enable = mkEnableOption "metrics for Prometheus";
      listen = mkOption {
        type = types.str;
        default = "127.0.0.1:9464";
        example = "unix:/run/tvix-store-mount/metrics.sock";
        description = "Where to offer them: an address with a port, or unix: and the path of a socket.";
      };
    };

    writable = {
      enable = mkOption {
        type = types.bool;
        default = cfg.bootFromStore && config.nix.enable;
        defaultText = literalExpression "config.services.tvix-store-mount.bootFromStore && config.nix.enable";
        description = ''
          Whether paths can be added to the mounted store, by an overlay of which
          it is the lower layer. Nix needs this to build anything.
        '';
      };

      upperDir = mkOption {
        type = types.nullOr types.path;
        default = "/nix/.rw-store";
        description = ''
          The directory that has what was added. With null it is kept in memory,
          and gone after a reboot unless it was imported into the store.
        '';
      };

      tmpfsSize = mkOption {
        type = types.str;
        default = "50%";
        example = "4G";
        description = "How large it can become in memory.";
      };
    };

    registerPaths = mkOption {
      type = types.bool;
      default = cfg.writable.enable;
      defaultText = literalExpression "config.services.tvix-store-mount.writable.enable";
      description = ''
        Whether Nix is told at boot of the paths in the store, so that it takes
        them for valid and keeps the running system when it collects garbage.
        Paths that it believes in but that are gone are forgotten.
      '';
    };

    generations = {
      import = mkOption {
        type = types.bool;
        default = cfg.bootFromStore && config.nix.enable;
        defaultText = literalExpression "config.services.tvix-store-mount.bootFromStore && config.nix.enable";
        description = ''
          Whether `nixos-rebuild switch` and `boot` import the new system into
          the store before its entry in the boot loader is written, and fail if
          it is not complete.
        '';
      };

      verify = mkOption {
        type = types.bool;
        default = true;
        description = ''
          Whether what the store has already of the new system is hashed again,
          and damage mended from {file}`/nix/store`.
        '';
      };

      live = mkOption {
        type = types.bool;
        default = true;
        description = ''
          Whether whatever else Nix keeps, such as users' profiles, is imported
          too as long as it would be gone after a reboot: before the machine has
          booted from the store for the first time, and if what is added to the
          store is kept in memory.
        '';
      };
    };

    gc = {
      automatic = mkOption {
        type = types.bool;
        default = false;
        description = ''
          Whether to free at times the space of what nothing needs, by
          `store-mountd gc`. Pins, generations of the system, what runs, and
          whatever Nix keeps stay. Nix's own garbage is collected before, by
          {file}`nix-gc.service` with {option}`nix.gc.options`.
        '';
      };

      dates = mkOption {
        type = types.singleLineStr;
        default = "weekly";
        example = "03:45";
        description = "When, in the format of {manpage}`systemd.time(7)`.";
      };

      roots = mkOption {
        type = types.listOf types.path;
        default = [ ];
        example = [ "/srv/deployments" ];
        description = ''
          Directories of links that keep what they lead to, beside those that
          Nix has.
        '';
      };

      options = mkOption {
        type = types.singleLineStr;
        default = "";
        example = "--compact-above 10";
        description = "More flags of `store-mountd gc`, as the shell takes them.";
      };
    };
  };

  config = lib.mkIf cfg.enable {
    services.tvix-store-mount.settings = {
      list-root = mkDefault cfg.listRoot;
      allow-other = mkDefault cfg.allowOther;
      threads = lib.mkIf (cfg.threads != null) (mkDefault cfg.threads);
      metrics-listen = lib.mkIf cfg.metrics.enable (mkDefault cfg.metrics.listen);
      # The store on disk stays below the mount.
      allow-nonempty = lib.mkIf cfg.bootFromStore (mkDefault true);
      # One name before and after switch-root.
      control-socket = mkDefault controlSocket;
    };
  };
}
