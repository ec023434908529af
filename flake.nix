{
  description = "A content-addressed, verified Nix store, mounted in place of /nix/store";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-25.11";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      perSystem =
        function:
        lib.genAttrs systems (
          system:
          let
            pkgs = nixpkgs.legacyPackages.${system};
          in
          function (import ./default.nix { inherit pkgs system; }) pkgs
        );
    in
    {
      packages = perSystem (
        project: _: {
          inherit (project) mountd default;
        }
      );

      checks = perSystem (project: _: project.checks);
      devShells = perSystem (project: _: { default = project.shell; });
      formatter = perSystem (_: pkgs: pkgs.nixfmt-tree);

      apps = perSystem (
        project: _: {
          demo = {
            type = "app";
            program = lib.getExe project.demo;
            meta.description = "Import the closure of Nix and mount it";
          };
        }
      );

      nixosModules = {
        default = self.nixosModules.tvix-store-mount;
        tvix-store-mount = ./nixos/module.nix;
      };

      overlays.default = final: _: {
        store-mountd = (import ./default.nix { pkgs = final; }).mountd;
      };

      # A store of closures, as a directory or an image of a disk: nix/store-image.nix.
      lib.storeImage =
        { pkgs, ... }@arguments:
        (import ./default.nix { inherit pkgs; }).storeImage (removeAttrs arguments [ "pkgs" ]);
    };
}
