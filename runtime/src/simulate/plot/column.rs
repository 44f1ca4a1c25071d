//! Long series as few columns.

/// Most columns of time in a plot: two pixels each, about.
pub const MOST: usize = 600;

/// Several values of a series that are drawn as one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Column {
    /// Where it begins, in values.
    pub from: f64,
    /// One past where it ends, in values.
    pub to: f64,
    /// Their mean.
    pub mean: f64,
    /// The least.
    pub low: f64,
    /// The greatest.
    pub high: f64,
}

/// At most [`MOST`] columns of equal width (but for the last) that hold all values.
pub fn columns(values: impl ExactSizeIterator<Item = f64>) -> Vec<Column> {
    let width = width(values.len());
    let values: Vec<f64> = values.collect();
    let column = |(index, part): (usize, &[f64])| Column {
        from: (index * width) as f64,
        to: (index * width + part.len()) as f64,
        mean: part.iter().sum::<f64>() / part.len() as f64,
        low: part.iter().copied().fold(f64::INFINITY, f64::min),
        high: part.iter().copied().fold(f64::NEG_INFINITY, f64::max),
    };
    values.chunks(width).enumerate().map(column).collect()
}

/// Values in a column of a series of `length`.
pub fn width(length: usize) -> usize {
    length.div_ceil(MOST).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_series_is_drawn_as_it_is() {
        let columns = columns([1.0, 5.0].into_iter());
        assert_eq!(columns[1], Column { from: 1.0, to: 2.0, mean: 5.0, low: 5.0, high: 5.0 });
        assert_eq!(columns.len(), 2);
    }

    #[test]
    fn a_long_series_loses_no_peak() {
        let columns = columns((0..86_400).map(|second| if second == 70_000 { 99.0 } else { 1.0 }));
        assert!(columns.len() <= MOST);
        assert_eq!(columns.iter().map(|column| column.high).fold(0.0, f64::max), 99.0);
        assert_eq!(columns.last().map(|column| column.to), Some(86_400.0));
    }
}
