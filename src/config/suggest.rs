//! Which name was meant by one that is not known.

/// The known name nearest to `written`, if it is near enough to have been meant.
pub(super) fn suggest<'n>(written: &str, known: &[&'n str]) -> Option<&'n str> {
    const LONGEST: usize = 64;
    if written.len() > LONGEST {
        return None;
    }
    let folded = written.to_ascii_lowercase().replace('-', "_");
    let mut begun = known.iter().filter(|name| folded.len() >= 3 && name.starts_with(&folded));
    if let (Some(name), None) = (begun.next(), begun.next()) {
        return Some(name);
    }
    let near = known.iter().map(|name| (distance(&folded, name), *name)).min()?;
    let allowed = near.1.len().max(folded.len()) / 3;
    (near.0 <= allowed).then_some(near.1)
}

/// How many letters must be put in, taken out, replaced or swapped with their neighbour to make one of the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0_usize; b.len() + 1]; a.len() + 1];
    rows[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        rows[i][0] = i;
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = least;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_finds_its_name_and_a_stranger_none() {
        let known = ["listen", "workers", "max_body", "header_timeout"];
        assert_eq!(suggest("lisen", &known), Some("listen"));
        assert_eq!(suggest("wrokers", &known), Some("workers"));
        assert_eq!(suggest("Max-Body", &known), Some("max_body"));
        assert_eq!(suggest("header", &known), Some("header_timeout"), "one that is only begun");
        assert_eq!(suggest("colour", &known), None);
        assert_eq!(suggest("", &known), None);
        assert_eq!(suggest("x", &[]), None);
    }
}
