//! Wraps comments that are too wide: the formatter leaves comments alone.
//!
//! Only what is too wide moves: the words that do not fit go to the next line of the same
//! paragraph, and so on until all fit. Tables, fenced code, headings and lists keep their shape.

/// Most columns of a line.
const COLUMNS_MAX: usize = 100;

/// Wraps the comments of a source text. Returns the text unchanged when nothing is too wide.
pub fn wrap_comments(text: &str) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let mut fenced = false;
    let mut index = 0;
    while index < lines.len() {
        let line = lines[index].clone();
        if let Some((prefix, body)) = comment(&line) {
            fenced ^= body.starts_with("```");
            if !fenced && line.chars().count() > COLUMNS_MAX && movable(body) {
                move_overflow(&mut lines, index, prefix, body);
            }
        } else {
            fenced = false;
        }
        index += 1;
    }
    let mut wrapped = lines.join("\n");
    if text.ends_with('\n') {
        wrapped.push('\n');
    }
    wrapped
}

/// Splits a line that is all comment into its prefix (indentation and slashes) and its words.
fn comment(line: &str) -> Option<(&str, &str)> {
    let body_at = line.find(|c: char| !c.is_whitespace())?;
    let rest = &line[body_at..];
    let mark = ["///", "//!", "//"]
        .into_iter()
        .find(|mark| rest.starts_with(mark))?;
    let at = body_at + mark.len();
    Some((&line[..at], line[at..].trim_start_matches(' ')))
}

/// Tables and headings are not paragraphs.
fn movable(body: &str) -> bool {
    !body.starts_with(['|', '#', '`']) || body.starts_with('`') && !body.starts_with("```")
}

/// Columns that a list's continuation lines are indented by; 0 outside a list.
fn hanging(line: &str, prefix: &str) -> usize {
    let after = &line[prefix.len()..];
    let spaces = after.len() - after.trim_start_matches(' ').len();
    let body = after.trim_start_matches(' ');
    let digits = body.bytes().take_while(u8::is_ascii_digit).count();
    let item = match body.as_bytes() {
        [b'-' | b'*', b' ', ..] => 2,
        _ if digits > 0 && body[digits..].starts_with(". ") => digits + 2,
        _ => 0,
    };
    spaces.max(1) + item
}

/// Puts the words that do not fit before those of the next line of the paragraph.
fn move_overflow(lines: &mut Vec<String>, index: usize, prefix: &str, body: &str) {
    let line = lines[index].clone();
    let limit = COLUMNS_MAX;
    let mut at = line.len();
    while line[..at].chars().count() > limit {
        let Some(space) = line[..at]
            .rfind(' ')
            .filter(|at| *at > line.len() - body.len())
        else {
            return; // One long word, such as a link: there is nowhere to break.
        };
        at = space;
    }
    let (kept, overflow) = (line[..at].trim_end(), line[at..].trim_start());
    let indent = hanging(&line, prefix);
    let continues = lines.get(index + 1).is_some_and(|next| {
        comment(next).is_some_and(|(next_prefix, next_body)| {
            let after = &next[next_prefix.len()..];
            let spaces = after.len() - after.trim_start_matches(' ').len();
            let plain =
                !next_body.is_empty() && movable(next_body) && !next_body.starts_with("```");
            next_prefix == prefix && plain && spaces == indent && hanging(next, prefix) == indent
        })
    });
    let padding = " ".repeat(indent);
    if continues {
        let next_body = lines[index + 1][prefix.len()..]
            .trim_start_matches(' ')
            .to_owned();
        lines[index + 1] = format!("{prefix}{padding}{overflow} {next_body}");
    } else {
        lines.insert(index + 1, format!("{prefix}{padding}{overflow}"));
    }
    kept.clone_into(&mut lines[index]);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words, without comment marks.
    fn words(text: &str) -> Vec<&str> {
        text.split_ascii_whitespace()
            .filter(|word| !word.starts_with("//"))
            .collect()
    }

    #[test]
    fn overflow_runs_down_the_paragraph_and_loses_no_word() {
        let wide = "    /// ".to_owned() + &"word ".repeat(20) + "\n";
        let text = format!("{wide}{wide}    /// end.\n    ///\n    /// Next.\n    fn a() {{}}\n");
        let wrapped = wrap_comments(&text);
        assert!(
            wrapped
                .lines()
                .all(|line| line.chars().count() <= COLUMNS_MAX),
            "{wrapped}"
        );
        assert_eq!(words(&wrapped), words(&text));
        assert!(wrapped.contains("\n    ///\n    /// Next.\n    fn a() {}\n"));
        assert_eq!(wrap_comments(&wrapped), wrapped);
    }

    #[test]
    fn a_list_item_hangs() {
        let text = format!("// - {}\n// - b\n", "word ".repeat(20).trim_end());
        let wrapped = wrap_comments(&text);
        assert!(wrapped.contains("\n//   word"), "{wrapped}");
        assert!(wrapped.ends_with("\n// - b\n"), "{wrapped}");
    }

    #[test]
    fn code_tables_fences_and_long_words_stay() {
        let long = "x".repeat(120);
        let words = "w ".repeat(60);
        for text in [
            format!("let a = \"{words}\";\n"),
            format!("/// | {words}|\n"),
            format!("/// ```\n/// {words}\n/// ```\n"),
            format!("/// {long}\n"),
        ] {
            assert_eq!(wrap_comments(&text), text);
        }
    }
}
