//! As much of Markdown as the checks need.

/// The targets of all links outside code.
pub(super) fn links(text: &str) -> Vec<String> {
    let mut links = Vec::new();
    for line in lines_outside_blocks(text) {
        for part in line.split("](").skip(1) {
            if let Some((target, _)) = part.split_once(')') {
                links.push(target.to_owned());
            }
        }
    }
    links
}

/// All code: the lines of code blocks, and what stands between backquotes.
pub(super) fn code(text: &str) -> Vec<String> {
    let mut code: Vec<String> = Vec::new();
    for (line, in_block) in classified(text) {
        if in_block {
            // A line may go on behind a backslash.
            match code.last_mut().filter(|last| last.ends_with('\\')) {
                Some(last) => {
                    last.pop();
                    last.push_str(line.trim());
                }
                None => code.push(line.trim().to_owned()),
            }
        } else {
            code.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    code
}

/// The commands of a line of code: without prompt, comment, `sudo` and variables, and split at
/// what separates commands in a shell.
pub(super) fn commands(code: &str) -> Vec<Vec<String>> {
    let code = code
        .strip_prefix("$ ")
        .or_else(|| code.strip_prefix("# "))
        .unwrap_or(code);
    let code = code.split(" #").next().unwrap_or_default();
    let mut commands = vec![Vec::new()];
    for word in code.split_whitespace() {
        if matches!(word, "|" | "||" | "&&" | ";" | "&" | ">") {
            commands.push(Vec::new());
        } else if let Some(command) = commands.last_mut() {
            let is_prefix = word == "sudo" || word.split_once('=').is_some_and(|(n, _)| is_name(n));
            if !(command.is_empty() && is_prefix) {
                command.push(word.trim_end_matches(';').to_owned());
            }
        }
    }
    commands
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_uppercase() || c == '_')
}

fn lines_outside_blocks(text: &str) -> impl Iterator<Item = &str> {
    classified(text)
        .filter(|(_, in_block)| !in_block)
        .map(|(line, _)| line)
}

/// All lines but the fences, with whether they are in a fenced or an indented block.
fn classified(text: &str) -> impl Iterator<Item = (&str, bool)> {
    let mut in_fence = false;
    // An indented block begins after an empty line.
    let mut may_be_indented = true;
    text.lines().filter_map(move |line| {
        if line.trim_start().starts_with("```") {
            in_fence = !in_fence;
            return None;
        }
        let is_indented = may_be_indented && line.starts_with("    ");
        may_be_indented = is_indented || line.trim().is_empty();
        Some((line, in_fence || is_indented))
    })
}

#[cfg(test)]
mod tests {
    use super::{code, commands, links};

    const TEXT: &str = "See [a](docs/a.md#x), `b/c` and\n```sh\n$ sudo RUST_LOG=info tool --x \\\n  \
                        run | less  # [no](link)\n```\nend `d`\n\n    tool it\nlast";

    #[test]
    fn finds_links_and_code() {
        assert_eq!(links(TEXT), ["docs/a.md#x"]);
        let code = code(TEXT);
        assert_eq!(code[0], "b/c");
        assert_eq!(code[2..], ["d", "tool it"]);
        assert_eq!(
            commands(&code[1]),
            [vec!["tool", "--x", "run"], vec!["less"]]
        );
    }
}
