# A machine that runs from a content-addressed store: services.tvix-store-mount.
{
  config,
  lib,
  pkgs,
  utils,
  ...
}:
{
  imports = [
    ./module/options.nix
    ./module/assertions.nix
    ./module/boot.nix
    ./module/service.nix
    ./module/writable.nix
    ./module/registration.nix
    ./module/generations.nix
    ./module/gc.nix
  ];

  # What the parts share, as an argument of each.
  _module.args.storeMount = import ./module/lib.nix {
    inherit
      config
      lib
      pkgs
      utils
      ;
  };
}
