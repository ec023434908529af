# Reads registrations: path, NAR hash, NAR size, deriver, number of references, these.
# With `wanted`, a file of paths, prints those registrations; else all paths.
BEGIN {
  if (wanted != "") {
    while ((getline path < wanted) > 0)
      want[path] = 1
  }
}
{
  path = $0
  text = path
  for (i = 0; i < 4; i++) {
    if ((getline line) <= 0)
      exit 1
    text = text "\n" line
  }
  for (i = line + 0; i > 0; i--) {
    if ((getline line) <= 0)
      exit 1
    text = text "\n" line
  }
  if (wanted == "")
    print path
  else if (path in want)
    print text
}
