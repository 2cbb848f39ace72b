//! The nearest known word, for "did you mean".

/// The candidate closest to `word`, if it is close enough to be a slip of the keyboard.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    let length = word.chars().count();
    // A word this long is no slip of a known key, and the distance is quadratic.
    if length > 64 {
        return None;
    }
    within(&word.to_lowercase(), candidates, (length / 3).max(1))
}

/// The candidate closest to `word`, if so few edits lead to it.
pub(crate) fn within<'a>(
    word: &str,
    candidates: impl Iterator<Item = &'a str>,
    limit: usize,
) -> Option<&'a str> {
    candidates
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Edits to get from one to the other, a swap of neighbours counted as one.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    let mut before: Vec<usize> = vec![0; b.len() + 1];
    let mut previous: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let cost = usize::from(a[i - 1] != b[j - 1]);
            row[j] = (previous[j] + 1)
                .min(row[j - 1] + 1)
                .min(previous[j - 1] + cost);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut previous, row);
    }
    previous[b.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_swapped_letter_finds_the_key_and_a_strange_word_finds_none() {
        let keys = ["backend", "copy_bytes", "selectors"];
        assert_eq!(nearest("bakcend", keys.into_iter()), Some("backend"));
        assert_eq!(nearest("copybytes", keys.into_iter()), Some("copy_bytes"));
        assert_eq!(nearest("zzz", keys.into_iter()), None);
    }
}
