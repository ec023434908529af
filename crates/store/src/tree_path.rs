/// The path of the names below a root, for messages: what is not printable
/// UTF-8 is escaped, and the root itself is `.`.
pub(crate) fn tree_path<'a>(names: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut path = String::new();
    for name in names {
        if !path.is_empty() {
            path.push('/');
        }
        match std::str::from_utf8(name) {
            Ok(text) if !text.chars().any(char::is_control) => path.push_str(text),
            _ => path.push_str(&name.escape_ascii().to_string()),
        }
    }
    if path.is_empty() {
        path.push('.');
    }
    path
}
