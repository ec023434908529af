# The store has a generation, whole, before the boot loader offers it.
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
    ;
  inMemory = cfg.writable.upperDir == null;

  importGeneration = pkgs.writeShellApplication {
    name = "tvix-store-mount-import";
    runtimeInputs = [
      cfg.package
      config.nix.package
      pkgs.coreutils
      pkgs.gnused
      pkgs.util-linux
    ];
    text = ''
      generation=$(realpath "$1")
      storeDir=${lib.escapeShellArg cfg.storeDir}
      roots=("$generation")
    ''
    + lib.optionalString cfg.generations.live ''

      # Whether what Nix keeps, and this generation does not, will be seen after a reboot.
      stays=${if inMemory then "" else "$(findmnt -n -f -o FSTYPE --mountpoint /nix/store || true)"}
      if [ "$stays" != overlay ]; then
        live=$(nix-store --gc --print-roots | sed -n 's|^[^{].* -> \(/nix/store/.*\)$|\1|p' | sort -u)
        if [ -n "$live" ]; then
          mapfile -t -O 1 roots <<< "$live"
        fi
      fi
    ''
    + ''

      echo "importing $generation into $storeDir" >&2
      store-mountd --store "$storeDir" import --closure ${lib.optionalString cfg.generations.verify "--repair "}"''${roots[@]}" > /dev/null
      # Fails, and names what is missing, if the closure is not whole.
      store-mountd --store "$storeDir" registration --closure "$generation" > /dev/null
    '';
  };

  # `install` is a command, perhaps with arguments, to which the generation is added.
  afterImport =
    install:
    pkgs.writeShellScript "tvix-store-mount-install-boot-loader" ''
      set -e
      if ! ${lib.getExe importGeneration} "$1"; then
        echo "The boot loader is left as it was: $1 could not be imported into ${cfg.storeDir}." >&2
        exit 1
      fi
      ${install} "$@"
    '';
in
{
  # Whatever the boot loader, what writes its entries is wrapped: nothing gets past it.
  options.system.build.installBootLoader = lib.mkOption {
    apply = install: if cfg.enable && cfg.generations.import then afterImport install else install;
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = cfg.generations.import -> config.nix.enable;
        message = ''
          Nix tells what a generation consists of. Set nix.enable = true, or
          services.tvix-store-mount.generations.import = false and import with `store-mountd import`.'';
      }
    ];
  };
}
