# As much of nixpkgs' lib as describing the module's options takes, so that the page of options can
# be checked where there is no nixpkgs. tests/eval.nix checks it by the real one.
let
  mkOption = option: option // { _type = "option"; };
  type = description: { inherit description; };
in
{
  inherit mkOption;

  literalExpression = text: { inherit text; };
  mkDefault = value: value;
  mkIf = _: value: value;
  # The expression of the package needs a nixpkgs; nothing here looks at it.
  mkPackageOption =
    _: name: arguments:
    mkOption {
      type = type "package";
      description = "The ${name} package to use.";
      defaultText.text = "${arguments.pkgsText}.${name}";
    };
  mkEnableOption =
    what:
    mkOption {
      type = type "boolean";
      default = false;
      example = true;
      description = "Whether to enable ${what}.";
    };

  types = {
    bool = type "boolean";
    str = type "string";
    singleLineStr = type "(optionally newline-terminated) single-line string";
    path = type "absolute path";
    package = type "package";
    ints.positive = type "positive integer, meaning >0" // {
      compound = true;
    };
    nullOr =
      inner:
      type (
        if inner.compound or false then "null or (${inner.description})" else "null or ${inner.description}"
      );
    listOf = inner: type "list of ${inner.description}";
    enum = values: type "one of ${builtins.concatStringsSep ", " (map builtins.toJSON values)}";
    submodule = module: {
      description = module.freeformType.description;
      getSubOptions = _: module.options;
    };
  };

  hasSuffix =
    suffix: text:
    let
      start = builtins.stringLength text - builtins.stringLength suffix;
    in
    start >= 0 && builtins.substring start (-1) text == suffix;
  removeSuffix =
    suffix: text: builtins.substring 0 (builtins.stringLength text - builtins.stringLength suffix) text;
  hasInfix = infix: text: builtins.length (builtins.split infix text) > 1;
}
