//! Columns of a table that has no end: each is as wide as what it has held so far.

use unicode_width::UnicodeWidthStr;

/// A column never becomes wider than this for the sake of the lines below; what is longer stands out.
const WIDTH_MAX: usize = 72;
const GAP: usize = 2;

/// The widths so far. The last column is never padded.
pub(crate) struct Columns {
    widths: Vec<usize>,
}

impl Columns {
    /// At least as wide as these.
    pub(crate) fn new<const N: usize>(widths: [usize; N]) -> Self {
        Self { widths: widths.into() }
    }

    /// One line, without white space at its end. Empty cells become `-`.
    pub(crate) fn line<const N: usize>(&mut self, cells: [&str; N]) -> String {
        let cells = cells.map(|cell| if cell.is_empty() { "-" } else { cell });
        for (width, cell) in self.widths.iter_mut().zip(cells) {
            *width = (*width).max(cell.width().min(WIDTH_MAX));
        }
        let mut line = String::new();
        for (column, cell) in cells.iter().enumerate() {
            line.push_str(cell);
            if column + 1 < cells.len() {
                let width = self.widths.get(column).copied().unwrap_or(0);
                let padding = width.saturating_sub(cell.width()) + GAP;
                line.extend(std::iter::repeat_n(' ', padding));
            }
        }
        line.truncate(line.trim_end().len());
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_stays_as_wide_as_its_widest_cell_so_far() {
        let mut columns = Columns::new([4, 2, 0]);
        let lines = [["a", "b", "c"], ["orders", "b", ""], ["a", "b", "c"]].map(|cells| columns.line(cells));
        assert_eq!(lines, ["a     b   c", "orders  b   -", "a       b   c"]);
    }

    #[test]
    fn width_is_counted_in_cells_of_the_terminal() {
        let mut columns = Columns::new([6, 0]);
        let lines = [["日本", "x"], ["naïve", "x"]].map(|cells| columns.line(cells));
        assert_eq!(lines, ["日本    x", "naïve   x"]);
    }

    #[test]
    fn one_very_long_cell_does_not_push_everything_else_aside() {
        let mut columns = Columns::new([1, 0]);
        columns.line([&"x".repeat(500), "y"]);
        assert_eq!(columns.line(["a", "b"]).len(), WIDTH_MAX + GAP + 1);
    }
}
