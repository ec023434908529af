# Nix's database follows what the store has.
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
    program
    ;
in
{
  config = lib.mkIf (cfg.enable && cfg.registerPaths) {
    systemd.services.tvix-store-mount-register = {
      description = "Register the Mounted Store's Paths with Nix";
      wantedBy = [ "multi-user.target" ];
      after = [ "local-fs.target" ];
      # To a Nix that does not know it, the running system is garbage.
      requiredBy = [
        "nix-daemon.service"
        "nix-gc.service"
      ];
      before = [
        "nix-daemon.service"
        "nix-daemon.socket"
        "nix-gc.service"
        "shutdown.target"
      ];
      # Who requires it would be stopped with it, and what a switch adds Nix knows.
      restartIfChanged = false;
      conflicts = [ "shutdown.target" ];
      unitConfig = {
        DefaultDependencies = false;
        RequiresMountsFor = [
          cfg.storeDir
          "/nix/var/nix"
        ];
        ConditionKernelCommandLine = kernelSwitch;
        # There is something to register only if the initrd mounted it.
        ConditionPathExists = program;
      };
      serviceConfig = {
        Type = "oneshot";
        RemainAfterExit = true;
      };
      path = [
        cfg.package
        config.nix.package
        pkgs.coreutils
        pkgs.findutils
        pkgs.gawk
      ];
      script = ''
        work=$(mktemp -d)
        trap 'rm -r "$work"' EXIT

        store-mountd --store ${lib.escapeShellArg cfg.storeDir} registration > "$work/all"

        # Of what can be seen, what Nix does not know yet. References of a path are valid if it is.
        awk -f ${./registration.awk} "$work/all" | while IFS= read -r path; do
          if [ -e "$path" ] || [ -L "$path" ]; then
            printf '%s\n' "$path"
          fi
        done > "$work/seen"
        xargs -r nix-store --check-validity --print-invalid < "$work/seen" > "$work/new"
        awk -v wanted="$work/new" -f ${./registration.awk} "$work/all" | nix-store --load-db

        # What the database has and the store has not is forgotten.
        nix-store --verify || echo "nix-store --verify found what it could not mend" >&2

        # A machine that was booted from an image has no profile yet, to which it could return.
        profile=/nix/var/nix/profiles/system
        if [ ! -e "$profile" ] && [ ! -L "$profile" ]; then
          nix-env --profile "$profile" --set "$(readlink -f /run/current-system)"
        fi
      '';
    };
  };
}
