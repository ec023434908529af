# A small system whose every program is in /nix/store: Debian's packages, each as a store path with
# references to those that it uses.
{
  # The directory of the package files.
  debs,
  # What packages.pl printed.
  packages ? import ./packages.nix,
}:
let
  make =
    name: builder: attributes:
    derivation (
      {
        inherit name;
        system = builtins.currentSystem;
        builder = "/bin/sh";
        args = [ builder ];
        PATH = "/usr/sbin:/usr/bin:/sbin:/bin";
      }
      // attributes
    );
  # Store paths' names have no % and no ~.
  sanitized = builtins.replaceStrings [ "%3a" "~" ] [ "-" "-" ];
  built = builtins.mapAttrs (
    name: package:
    let
      uses = dependency: builtins.elem dependency package.deps;
    in
    make "${name}-${package.version}" ./package.sh {
      debs = map (
        file:
        builtins.path {
          path = debs + "/${file}";
          name = sanitized file;
        }
      ) package.debs;
      deps = map (dependency: built.${dependency}) package.deps;
      # Empty where there is none: what the C library itself uses cannot refer to it.
      libc = if uses "libc6" then built.libc6 else "";
      shell = if uses "dash" || !uses "libc6" || name == "dash" then "" else built.dash;
      relocate = ./relocate.pl;
    }
  ) packages;
  etc = make "etc" ./etc.sh { };
  path = make "system-path" ./system-path.sh { packages = builtins.attrValues built; };
in
make "system" ./system.sh {
  inherit etc path;
  inherit (built) systemd;
}
