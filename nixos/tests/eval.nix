# The module in real NixOS configurations, evaluated and not built. Every check is a name and
# whether it holds; one that does not is an error that names it.
#
# With <nixpkgs> on NIX_PATH:
#
#   nix-instantiate --eval --strict --expr 'import ./nixos/tests/eval.nix { }'
{
  pkgs ? import <nixpkgs> { },
  # Some of the groups below instead of all.
  only ? null,
}:
let
  inherit (pkgs) lib;
  inherit (lib) hasInfix elem;

  evaluate =
    settings:
    (import (pkgs.path + "/nixos/lib/eval-config.nix") {
      inherit lib;
      system = null;
      modules = [
        ../module.nix
        {
          nixpkgs.pkgs = pkgs;
          documentation.enable = false;
          system.stateVersion = lib.trivial.release;
          fileSystems."/" = {
            device = "/dev/disk/by-label/root";
            fsType = "ext4";
          };
          boot.loader.systemd-boot.enable = true;
          boot.initrd.systemd.enable = lib.mkDefault true;
          services.tvix-store-mount.enable = lib.mkDefault true;
        }
        settings
      ];
    }).config;

  store = settings: { services.tvix-store-mount = settings; };

  plain = evaluate { };
  readOnly = evaluate (store {
    writable.enable = false;
  });
  inMemory = evaluate (store {
    writable.upperDir = null;
  });
  elsewhere = evaluate (store {
    mountPoint = "/srv/store";
  });
  off = evaluate (store {
    enable = false;
  });

  registration = config: config.systemd.units."tvix-store-mount-register.service".text;
  mainUnit = config: config.systemd.units."tvix-store-mount.service".text;
  initrdUnits = config: config.boot.initrd.systemd.units;
  initrdUnit = config: (initrdUnits config)."tvix-store-mount.service".text;

  # The store paths and files of the initrd, as text.
  contents = config: map (entry: "${entry.source or entry}") config.boot.initrd.systemd.storePaths;

  says = part: text: hasInfix part text;
  lacks = part: text: !hasInfix part text;

  units = {
    "the initrd's unit is a drop-in for the shipped one" =
      (initrdUnits plain)."tvix-store-mount.service".overrideStrategy == "asDropin"
      && elem plain.services.tvix-store-mount.package plain.boot.initrd.systemd.packages;
    "so is the main system's" =
      plain.systemd.units."tvix-store-mount.service".overrideStrategy == "asDropin"
      && elem plain.services.tvix-store-mount.package plain.systemd.packages;
    "argv[0] begins with @" =
      says "ExecStart=@/run/tvix-store-mount/bin/store-mountd @store-mountd mount --config /etc/tvix-store-mount/config.toml" (
        initrdUnit plain
      );
    "the system is not looked for before" =
      says "Before=initrd-fs.target" (initrdUnit plain)
      && elem "initrd-fs.target" (initrdUnits plain)."tvix-store-mount.service".requiredBy;
    "a store that cannot be opened is told once" =
      says "Restart=on-abnormal" (initrdUnit plain) && lacks "Restart=" (mainUnit plain);
    "the system is checked before it is switched to" =
      let
        check = (initrdUnits plain)."tvix-store-mount-check.service";
        shipped = lib.readFile ../../systemd/tvix-store-mount-check.service;
      in
      check.overrideStrategy == "asDropin"
      && elem "initrd-fs.target" check.requiredBy
      && says "RequiresMountsFor=/sysroot/nix/store" check.text
      && lacks "ExecStart=" check.text
      && says "Before=initrd-fs.target" shipped
      && says "ExecStart=/usr/bin/store-mountd check-boot --root /sysroot\n" shipped;
    "and never again" =
      !plain.systemd.units ? "tvix-store-mount-check.service"
      && !(initrdUnits elsewhere) ? "tvix-store-mount-check.service";
    "the file system of the store is waited for" =
      says "RequiresMountsFor=/sysroot/var/lib/tvix-store-mount" (initrdUnit plain);
    "the kernel's command line switches all of it off" =
      lib.all
        (name: says "ConditionKernelCommandLine=!tvix-store-mount=off" (initrdUnits plain).${name}.text)
        [
          "tvix-store-mount-prepare.service"
          "tvix-store-mount-upper.service"
          "tvix-store-mount.service"
          "tvix-store-mount-check.service"
          "sysroot-nix-store.mount"
        ]
      && says "ConditionKernelCommandLine=!tvix-store-mount=off" (mainUnit plain);
    "who is required does not stop at switch-root" =
      lib.all (name: says "IgnoreOnIsolate=true" (initrdUnits plain).${name}.text)
        [
          "tvix-store-mount-prepare.service"
          "tvix-store-mount-upper.service"
        ];
    "the main system starts what is not in the store" =
      says "ExecStart=@/run/tvix-store-mount/bin/store-mountd @store-mountd mount --config /run/" (
        mainUnit plain
      );
    "the main system does not mount over itself" =
      says "ConditionPathExists=/run/tvix-store-mount/bin/store-mountd" (mainUnit plain)
      && plain.systemd.units."tvix-store-mount.service".wantedBy == [ ];
    "nothing stops it" =
      says "RefuseManualStop=true" (mainUnit plain)
      && says "X-StopOnRemoval=false" (mainUnit plain)
      && says "X-ReloadIfChanged=true" (mainUnit plain)
      && says "X-StopIfChanged=false" (mainUnit plain);
    "PID 1 does not wait for the store to start it" =
      says "ConditionKernelCommandLine=\nConditionKernelCommandLine=!tvix-store-mount=off\nConditionPathExists=/run/" (
        mainUnit plain
      );
    "a reload upgrades first and then replaces the copy" =
      says "Type=notify\n" (mainUnit plain)
      &&
        builtins.match ".*ExecReload=\nExecReload=.*store-mountd upgrade --socket \"/run/tvix-store-mount/mount.sock\"\nExecReload=.*install .*" (
          mainUnit plain
        ) != null;
    "the mounts stay at shutdown" =
      lib.all (name: says "DefaultDependencies=no" plain.systemd.units.${name}.text)
        [
          "nix-store.mount"
          "run-tvix\\x2dstore\\x2dmount-lower.mount"
        ];
    "an upgrade of the system alone does not touch the unit" =
      lacks "LOCALE_ARCHIVE" (mainUnit plain) && lacks "TZDIR" (mainUnit plain);
    "the overlay is over the mount" =
      says
        "lowerdir=/run/tvix-store-mount/lower,upperdir=/sysroot/nix/.rw-store/store,workdir=/sysroot/nix/.rw-store/work"
        (initrdUnits plain)."sysroot-nix-store.mount".text;
    "what the overlay waits for does not wait for it" =
      lib.all (name: lacks "RequiresMountsFor=/sysroot/nix/store\n" (initrdUnits plain).${name}.text)
        [
          "tvix-store-mount-prepare.service"
          "tvix-store-mount-upper.service"
          "tvix-store-mount.service"
        ];
    "without an overlay there is none" =
      !(initrdUnits readOnly) ? "sysroot-nix-store.mount"
      && !readOnly.systemd.units ? "tvix-store-mount-register.service";
    "an overlay in memory is on a tmpfs of its own" =
      says "size=50%" (initrdUnits inMemory)."run-tvix\\x2dstore\\x2dmount-upper.mount".text
      &&
        says "upperdir=/run/tvix-store-mount/upper/store"
          (initrdUnits inMemory)."sysroot-nix-store.mount".text;
    "paths are registered before Nix's daemon listens" =
      says "Before=nix-daemon.service nix-daemon.socket nix-gc.service" (registration plain)
      && says "ConditionPathExists=/run/tvix-store-mount/bin/store-mountd" (registration plain);
    "nothing collects garbage if they are not" =
      lib.all (name: elem name plain.systemd.units."tvix-store-mount-register.service".requiredBy) [
        "nix-daemon.service"
        "nix-gc.service"
      ]
      && says "X-RestartIfChanged=false" (registration plain);
    "what Nix hid is shown again at boot" =
      says "for mark in ${lib.escapeShellArg "/sysroot/nix/.rw-store/store"}/*; do\n  if [ -c \"$mark\" ]; then\n    rm " plain.boot.initrd.systemd.services.tvix-store-mount-upper.script;
    "the running and the booted system are roots of Nix's" =
      lib.all (name: lib.any (says "/nix/var/nix/gcroots/${name} ") plain.systemd.tmpfiles.rules)
        [
          "booted-system"
          "current-system"
        ];
    "another mount is a service of the main system" =
      !(initrdUnits elsewhere) ? "tvix-store-mount.service"
      && elem "multi-user.target" elsewhere.systemd.units."tvix-store-mount.service".wantedBy
      && says "RequiresMountsFor=/srv/store" (mainUnit elsewhere);
    "disabled, nothing is left" =
      !off.systemd.units ? "tvix-store-mount.service"
      && !(initrdUnits off) ? "tvix-store-mount.service"
      &&
        off.system.build.installBootLoader == (evaluate (store {
          enable = false;
        })).system.build.installBootLoader;
    "flags come last, as they are" = says ''boot.toml "--max-threads=64" "--x=a b"'' (
      mainUnit (
        evaluate (store {
          extraFlags = [
            "--max-threads=64"
            "--x=a b"
          ];
        })
      )
    );
  };

  initrd = {
    "has the program" = elem (lib.getExe plain.services.tvix-store-mount.package) (contents plain);
    "has its configuration" = plain.boot.initrd.systemd.contents ? "/etc/tvix-store-mount/config.toml";
    "has the kernel's modules" =
      elem "fuse" plain.boot.initrd.kernelModules && elem "overlay" plain.boot.initrd.kernelModules;
    "has no more of them than needed" = !elem "overlay" readOnly.boot.initrd.kernelModules;
  };

  generations = {
    "the boot loader is behind an import" =
      says "could not be imported" plain.system.build.installBootLoader.text
      && says "systemd-boot" plain.system.build.installBootLoader.text;
    "unless it is told not to" =
      (evaluate (store {
        generations.import = false;
      })).system.build.installBootLoader == off.system.build.installBootLoader;
    "the system evaluates" = lib.all (config: lib.isString config.system.build.toplevel.drvPath) [
      plain
      readOnly
      inMemory
      elsewhere
      off
    ];
  };

  gcUnit = config: config.systemd.units."tvix-store-mount-gc.service";
  gcScript = config: config.systemd.services.tvix-store-mount-gc.script;
  collecting = evaluate (store {
    gc.automatic = true;
    gc.dates = "03:45";
    gc.roots = [ "/srv/roots" ];
    gc.options = "--compact-above 10";
  });
  gc = {
    "nobody collects unless told to" =
      !plain.systemd.units ? "tvix-store-mount-gc.timer" && (gcUnit plain).wantedBy == [ ];
    "a timer does" =
      says "OnCalendar=03:45" collecting.systemd.units."tvix-store-mount-gc.timer".text
      && says "Persistent=true" collecting.systemd.units."tvix-store-mount-gc.timer".text
      && elem "timers.target" collecting.systemd.units."tvix-store-mount-gc.timer".wantedBy;
    "flags come last, before them what stays" =
      lib.hasSuffix "--keep-closure-of known --roots /nix/var/nix/gcroots --roots /nix/var/nix/profiles --roots ${lib.escapeShellArg "/srv/roots"} --compact-above 10" (
        gcScript collecting
      );
    "links that cannot be seen keep nothing, so they are waited for" =
      says "RequiresMountsFor=/srv/roots" (gcUnit collecting).text;
    "Nix collects first, and knows the store" =
      says "Requires=tvix-store-mount-register.service" (gcUnit plain).text
      && says "Wants=nix-daemon.socket nix-gc.service" (gcUnit plain).text
      && says "After=tvix-store-mount-register.service nix-daemon.socket nix-gc.service" (gcUnit plain)
      .text;
    "a list that is cut off is an error" = says "set -o pipefail" (gcScript plain);
    "not on a machine that runs from its disk" =
      says "ConditionKernelCommandLine=!tvix-store-mount=off" (gcUnit plain).text
      && says "ConditionPathExists=/run/tvix-store-mount/bin/store-mountd" (gcUnit plain).text
      && says "ConditionPathIsReadWrite=/var/lib/tvix-store-mount" (gcUnit plain).text;
    "it writes to the store and nowhere else, when nothing else wants to" =
      lib.all (line: says line (gcUnit plain).text)
        [
          "ProtectSystem=strict"
          "ReadWritePaths=/var/lib/tvix-store-mount"
          "IOSchedulingClass=idle"
          "Nice=19"
        ];
    "a mount elsewhere keeps its pins, and no links of this system" =
      lacks "--roots" (gcScript elsewhere)
      && lacks "nix-store" (gcScript elsewhere)
      && lacks "nix-gc" (gcUnit elsewhere).text;
  };

  # A configuration, and what the message that refuses it must say.
  refusals = {
    "a script as the initrd" = {
      config = {
        boot.initrd.systemd.enable = false;
      };
      remedy = "boot.initrd.systemd.enable = true";
    };
    "a store that is mounted late" = {
      config.fileSystems."/var/lib/tvix-store-mount" = {
        device = "/dev/disk/by-label/store";
        fsType = "xfs";
      };
      remedy = ''fileSystems."/var/lib/tvix-store-mount".neededForBoot = true'';
    };
    "an upper layer that is mounted late" = {
      config.fileSystems."/srv" = {
        device = "/dev/disk/by-label/srv";
        fsType = "xfs";
      };
      config.services.tvix-store-mount.writable.upperDir = "/srv/added";
      remedy = ''fileSystems."/srv".neededForBoot = true'';
    };
    "a store below its mount" = {
      config = store { storeDir = "/nix/store/.castore"; };
      remedy = "Choose a\ndirectory outside of it";
    };
    "an upper layer in the store" = {
      config = store { writable.upperDir = "/var/lib/tvix-store-mount/upper"; };
      remedy = "or null to keep it in memory";
    };
    "a mount over the running system" = {
      config = store { bootFromStore = false; };
      remedy = "services.tvix-store-mount.bootFromStore = true";
    };
    "an overlay of a late mount" = {
      config = store {
        mountPoint = "/srv/store";
        writable.enable = true;
      };
      remedy = "services.tvix-store-mount.bootFromStore = true";
    };
    "an overlay that cannot be listed" = {
      config = store { listRoot = false; };
      remedy = "services.tvix-store-mount.listRoot = true";
    };
    "registration without an overlay" = {
      config = store {
        writable.enable = false;
        registerPaths = true;
      };
      remedy = "services.tvix-store-mount.registerPaths = false";
    };
    "two things on /nix/store" = {
      config.fileSystems."/nix/store" = {
        device = "/dev/disk/by-label/nix";
        fsType = "ext4";
      };
      remedy = "Remove the former";
    };
    "a store that settings choose" = {
      config = store { settings.store = "/srv"; };
      remedy = "Use services.tvix-store-mount.storeDir instead";
    };
    "a mountpoint that settings choose" = {
      config = store { settings.mountpoint = "/srv"; };
      remedy = "Use services.tvix-store-mount.mountPoint instead";
    };
    "an import without Nix" = {
      config = {
        nix.enable = false;
        services.tvix-store-mount.generations.import = true;
      };
      remedy = "services.tvix-store-mount.generations.import = false";
    };
    "a container" = {
      config.boot.isContainer = true;
      remedy = "enable\nservices.tvix-store-mount there";
    };
  };

  messages =
    config: map (entry: entry.message) (lib.filter (entry: !entry.assertion) config.assertions);
  refused = lib.mapAttrs' (name: case: {
    name = "refused, and told how to mend it: ${name}";
    value = lib.any (says case.remedy) (messages (evaluate case.config));
  }) refusals;

  warned = {
    "a read-only store beside Nix warns" = lib.any (says "writable.enable") readOnly.warnings;
    "deduplication warns" =
      lib.any (says "nix.optimise.automatic = false")
        (evaluate { nix.optimise.automatic = true; }).warnings;
    "nothing else does" = !lib.any (says "tvix-store-mount") plain.warnings;
    "and nothing is refused" =
      messages plain == [ ] && messages readOnly == [ ] && messages elsewhere == [ ];
  };

  # Values that options do not take.
  wrong = {
    storeDir = "relative";
    mountPoint = 1;
    threads = 0;
    settings.integrity = "sometimes";
    settings.log-level = "loud";
    writable.upperDir = "relative";
    registerPaths = "yes";
    extraFlags = "--x";
    generations.verify = 1;
    gc.dates = "two\nlines";
    gc.roots = [ "relative" ];
    package = "store-mountd";
  };
  valueAt = path: config: lib.getAttrFromPath path config.services.tvix-store-mount;
  isTaken =
    path: config:
    let
      value = valueAt path config;
    in
    (builtins.tryEval (builtins.deepSeq (value.drvPath or value) true)).success;
  wrongPaths = lib.collect lib.isList (lib.mapAttrsRecursive (path: _: path) wrong);
  wrongValues = {
    "taken: the defaults of the same" = lib.all (path: isTaken path plain) wrongPaths;
  }
  // lib.listToAttrs (
    map (path: {
      name = "not taken: ${lib.concatStringsSep "." path}";
      value = !isTaken path (evaluate (store (lib.setAttrByPath path (lib.getAttrFromPath path wrong))));
    }) wrongPaths
  );

  # The page of options: the same by nixpkgs' lib as by the few functions that write it. Types have
  # other descriptions in other releases.
  page =
    arguments:
    lib.filter (line: !lib.hasPrefix "- Type: " line) (
      lib.splitString "\n" (import ../options-doc.nix arguments)
    );
  docs = {
    "the page of options is that of the options" = page { inherit lib pkgs; } == page { };
  };

  # The virtual machines' drivers, their scripts checked for types when they are built.
  tests = lib.mapAttrs' (name: test: {
    name = "the test ${name} evaluates";
    value = lib.isString test.drvPath;
  }) (import ./. { inherit pkgs; });

  groups = {
    inherit
      units
      initrd
      generations
      gc
      refused
      warned
      wrongValues
      docs
      tests
      ;
  };
  all = lib.concatMapAttrs (
    group: checks: if only == null || elem group only then checks else { }
  ) groups;
  failed = lib.attrNames (lib.filterAttrs (_: holds: !holds) all);
in
if failed == [ ] then all else throw "does not hold:\n  ${lib.concatStringsSep "\n  " failed}"
