//! Hit ratio over time, drawn with plain characters for any terminal.

/// Columns and rows of the drawing.
pub(crate) const COLUMNS: usize = 60;
const ROWS: usize = 10;

/// Hits and lookups of one stretch of the replay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub hits: u64,
    pub lookups: u64,
}

impl Stretch {
    /// Hits over lookups; `None` where nothing was looked up.
    pub(crate) fn ratio(self) -> Option<f64> {
        (self.lookups > 0).then(|| self.hits as f64 / self.lookups as f64)
    }
}

/// Draws one column a stretch; `from` and `to` stand below the ends of the axis.
pub(crate) fn draw(stretches: &[Stretch], from: &str, to: &str) -> String {
    let mut lines = vec!["hit ratio".to_owned()];
    for row in (1..=ROWS).rev() {
        let label = match row {
            ROWS => "1.0",
            5 => "0.5",
            _ => "   ",
        };
        let line: String = stretches
            .iter()
            .map(|stretch| cell(*stretch, row))
            .collect();
        lines.push(format!("  {label} |{}", line.trim_end()));
    }
    let width = stretches.len();
    lines.push(format!("  0.0 +{}", "-".repeat(width)));
    let gap = width.saturating_sub(from.len() + to.len()).max(1);
    lines.push(format!("       {from}{}{to}", " ".repeat(gap)));
    lines.join("\n") + "\n"
}

/// One cell: filled, half filled at the top of a column, or blank.
fn cell(stretch: Stretch, row: usize) -> char {
    let height = stretch.ratio().unwrap_or(0.0) * ROWS as f64;
    let floor = (row - 1) as f64;
    match height - floor {
        part if part >= 0.75 => '#',
        part if part >= 0.25 => '.',
        _ => ' ',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_high_as_their_ratio() {
        let stretch = |hits| Stretch { hits, lookups: 100 };
        let drawing = draw(
            &[stretch(0), stretch(50), stretch(55), stretch(100)],
            "a",
            "b",
        );
        let lines: Vec<&str> = drawing.lines().collect();
        assert_eq!(lines[1], "  1.0 |   #");
        assert_eq!(lines[5], "      |  .#");
        assert_eq!(lines[6], "  0.5 | ###");
        assert_eq!(lines[10], "      | ###");
        assert_eq!(lines[11], "  0.0 +----");
        assert_eq!(lines[12], "       a  b");
        assert!(drawing.is_ascii());
    }

    #[test]
    fn stretch_without_lookups_is_blank() {
        assert_eq!(Stretch::default().ratio(), None);
        assert!(!draw(&[Stretch::default()], "", "").contains('#'));
    }
}
