# What the scripts of all tests can call.
{ lib, ... }:
{
  options.testScript = lib.mkOption {
    apply =
      script: arguments:
      lib.concatLines [
        (builtins.readFile ./asserts.py)
        (lib.toFunction script arguments)
      ];
  };
}
