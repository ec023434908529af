# The space of what nobody needs any more is freed at times.
{
  config,
  lib,
  pkgs,
  storeMount,
  ...
}:
let
  inherit (storeMount)
    cfg
    kernelSwitch
    ;
  store = "store-mountd --store ${lib.escapeShellArg cfg.storeDir}";

  # Nix's database speaks of this store only where it is registered.
  withNix = cfg.registerPaths && config.nix.enable;
  register = "tvix-store-mount-register.service";
  inherit (lib) mkIf optional optionals;
in
{
  config = mkIf cfg.enable {
    systemd.services.tvix-store-mount-gc = {
      description = "Free the Space of Store Paths That Nothing Needs";
      documentation = [ "man:store-mountd-gc(1)" ];
      startAt = optional cfg.gc.automatic cfg.gc.dates;
      requires = optional withNix register;
      wants = optionals withNix [
        "nix-daemon.socket"
        "nix-gc.service"
      ];
      # Nix's own garbage first: what is left is what it keeps.
      after = optionals withNix [
        register
        "nix-daemon.socket"
        "nix-gc.service"
      ];
      restartIfChanged = false;
      unitConfig = {
        # Links on a file system that is not mounted would keep nothing.
        RequiresMountsFor = [ cfg.storeDir ] ++ cfg.gc.roots;
        ConditionPathIsReadWrite = cfg.storeDir;
      }
      # On a machine that runs from its disk, what is in use tells nothing of the store.
      // lib.optionalAttrs cfg.bootFromStore {
        ConditionKernelCommandLine = kernelSwitch;
        ConditionPathExists = storeMount.program;
      };
      # Nix's database is asked for, and not opened.
      environment = lib.optionalAttrs withNix { NIX_REMOTE = "daemon"; };
      path = [
        cfg.package
      ]
      ++ optionals withNix [
        config.nix.package
        pkgs.findutils
        pkgs.gawk
      ];
      script =
        lib.optionalString withNix ''
          set -o pipefail
          # What Nix takes for valid stays, whether anything needs it or not.
          ${store} registration | awk -f ${./registration.awk} | sort > all
          xargs -r nix-store --check-validity --print-invalid < all | sort > unknown
          comm -23 all unknown > known
        ''
        + lib.concatStringsSep " " (
          [ "exec ${store} gc" ]
          ++ optional withNix "--keep-closure-of known"
          ++ optionals cfg.bootFromStore [
            "--roots /nix/var/nix/gcroots"
            "--roots /nix/var/nix/profiles"
          ]
          ++ map (root: "--roots ${lib.escapeShellArg root}") cfg.gc.roots
          ++ optional (cfg.gc.options != "") cfg.gc.options
        );
      serviceConfig = {
        Type = "oneshot";
        Nice = 19;
        IOSchedulingClass = "idle";
        RuntimeDirectory = "tvix-store-mount-gc";
        WorkingDirectory = "/run/tvix-store-mount-gc";

        # It sees what all processes use, and where the links of all users lead. What it writes belongs
        # to whoever has the store. No PrivateTmp, which would hide links.
        CapabilityBoundingSet = [
          "CAP_CHOWN"
          "CAP_DAC_OVERRIDE"
          "CAP_SYS_PTRACE"
        ];
        NoNewPrivileges = true;
        ReadWritePaths = [ cfg.storeDir ];
        ProtectSystem = "strict";
        ProtectHome = "read-only";
        PrivateDevices = true;
        PrivateNetwork = true;
        RestrictAddressFamilies = [ "AF_UNIX" ];
        ProtectClock = true;
        ProtectControlGroups = true;
        ProtectHostname = true;
        ProtectKernelLogs = true;
        ProtectKernelModules = true;
        ProtectKernelTunables = true;
        RestrictNamespaces = true;
        RestrictRealtime = true;
        RestrictSUIDSGID = true;
        LockPersonality = true;
        MemoryDenyWriteExecute = true;
        SystemCallArchitectures = "native";
        SystemCallFilter = [ "@system-service" ];
        SystemCallErrorNumber = "EPERM";
      };
    };

    systemd.timers.tvix-store-mount-gc = mkIf cfg.gc.automatic {
      timerConfig.Persistent = true;
    };
  };
}
