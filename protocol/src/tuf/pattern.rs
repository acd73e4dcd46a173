//! Unix shell wildcards: `*`, `?`, and for target paths `[abc]`, `[a-z]`, `[!abc]`, as Python's fnmatch reads them.
//!
//! Time is bounded by pattern length times text length, and where paths are looked up by [`Work`] over all of them: both come from
//! metadata, of which a thief of one delegated key writes a part.

/// The steps that one question to the metadata may still take.
///
/// Without a bound a thief of a delegated key could keep a device busy for minutes, at each start again: with a few long
/// patterns, and long paths that they nearly fit.
#[derive(Debug)]
pub(crate) struct Work(u64);

impl Work {
    /// What the largest fleets take is far below: a hundredth of a second or so.
    pub(crate) const LIMIT: u64 = 1 << 24;

    /// All of it.
    pub(crate) fn new() -> Self {
        Self(Self::LIMIT)
    }

    /// Takes steps off.
    pub(crate) fn spend(&mut self, steps: usize) {
        self.0 = self.0.saturating_sub(u64::try_from(steps).unwrap_or(u64::MAX));
    }

    /// Whether none are left. What was compared last has no meaning then.
    pub(crate) fn is_spent(&self) -> bool {
        self.0 == 0
    }
}

/// TUF: "the forward slash should not be matched by a wildcard": pattern and path are compared part by part.
pub(crate) fn path_matches(pattern: &str, path: &str, work: &mut Work) -> bool {
    work.spend(1);
    let mut patterns = pattern.split('/');
    let mut parts = path.split('/');
    loop {
        match (patterns.next(), parts.next()) {
            (None, None) => return true,
            (Some(pattern), Some(part)) if part_matches(pattern, part, work) => {}
            _ => return false,
        }
    }
}

fn part_matches(pattern: &str, part: &str, work: &mut Work) -> bool {
    work.spend(pattern.len().saturating_add(part.len()));
    !work.is_spent() && glob(&tokens(pattern, true), part, work)
}

/// Whether `text` as a whole is what `pattern` describes with `*` (any run) and `?` (any one character).
pub(crate) fn wildcard_matches(pattern: &str, text: &str) -> bool {
    glob(&tokens(pattern, false), text, &mut Work(u64::MAX))
}

enum Token {
    Run,
    One,
    Literal(char),
    Class { negated: bool, ranges: Vec<(char, char)> },
}

fn tokens(pattern: &str, classes: bool) -> Vec<Token> {
    let mut rest: &[char] = &pattern.chars().collect::<Vec<_>>();
    let mut tokens = Vec::new();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        tokens.push(match first {
            '*' => Token::Run,
            '?' => Token::One,
            '[' if classes => match class(after) {
                Some((token, after)) => {
                    rest = after;
                    token
                }
                None => Token::Literal('['),
            },
            other => Token::Literal(*other),
        });
    }
    tokens
}

/// A class from behind its `[`; `None` where it never ends, then `[` means itself.
fn class(text: &[char]) -> Option<(Token, &[char])> {
    let (negated, text) = match text.split_first() {
        Some(('!', rest)) => (true, rest),
        _ => (false, text),
    };
    // A `]` that comes first belongs to the class.
    let end = text.iter().skip(1).position(|c| *c == ']')? + 1;
    let (members, rest) = (text.get(..end)?, text.get(end + 1..)?);
    let mut ranges = Vec::new();
    let mut members = members.iter().peekable();
    while let Some(low) = members.next() {
        let mut ahead = members.clone();
        match (ahead.next(), ahead.next()) {
            (Some('-'), Some(high)) => {
                ranges.push((*low, *high));
                members = ahead;
            }
            _ => ranges.push((*low, *low)),
        }
    }
    Some((Token::Class { negated, ranges }, rest))
}

fn fits(token: &Token, c: char) -> bool {
    match token {
        Token::Run => false,
        Token::One => true,
        Token::Literal(literal) => *literal == c,
        Token::Class { negated, ranges } => ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *negated,
    }
}

fn glob(tokens: &[Token], text: &str, work: &mut Work) -> bool {
    let text: Vec<char> = text.chars().collect();
    let (mut at_token, mut at_text) = (0, 0);
    // Where to go back to when what follows the last `*` does not fit.
    let mut retry: Option<(usize, usize)> = None;
    while let Some(c) = text.get(at_text) {
        work.spend(1);
        if work.is_spent() {
            return false;
        }
        match tokens.get(at_token) {
            Some(Token::Run) => {
                retry = Some((at_token + 1, at_text));
                at_token += 1;
            }
            Some(token) if fits(token, *c) => {
                at_token += 1;
                at_text += 1;
            }
            _ => match retry {
                Some((token, from)) => {
                    retry = Some((token, from + 1));
                    (at_token, at_text) = (token, from + 1);
                }
                None => return false,
            },
        }
    }
    tokens.iter().skip(at_token).all(|token| matches!(token, Token::Run))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path_matches(pattern: &str, path: &str) -> bool {
        super::path_matches(pattern, path, &mut Work::new())
    }

    #[test]
    fn matches_the_examples_of_the_specification() {
        assert!(path_matches("targets/*.tgz", "targets/foo.tgz"));
        assert!(!path_matches("targets/*.tgz", "targets/foo.txt"));
        assert!(path_matches("foo-version-?.tgz", "foo-version-2.tgz"));
        assert!(!path_matches("foo-version-?.tgz", "foo-version-alpha.tgz"));
        assert!(path_matches("*.tgz", "foo.tgz"));
        assert!(!path_matches("*.tgz", "targets/foo.tgz"));
        assert!(!path_matches("foo.tgz", "bar.tgz"));
    }

    #[test]
    fn a_star_does_not_cross_a_slash() {
        assert!(path_matches("modules/*/*", "modules/a/1.wasm"));
        assert!(!path_matches("modules/*", "modules/a/1.wasm"));
        assert!(!path_matches("*", "a/b"));
        assert!(!path_matches("deployments/*", "deployments"));
    }

    #[test]
    fn reads_classes_as_fnmatch_does() {
        assert!(path_matches("[a-c]x", "bx"));
        assert!(!path_matches("[a-c]x", "dx"));
        assert!(path_matches("[!a-c]x", "dx"));
        assert!(path_matches("[]-]", "]"));
        assert!(path_matches("[]-]", "-"));
        assert!(path_matches("[ab", "[ab"));
        assert!(!path_matches("[z-a]", "m"));
    }

    #[test]
    fn device_patterns_have_only_star_and_question_mark() {
        assert!(wildcard_matches("line-*", "line-"));
        assert!(wildcard_matches("*-?7*", "gw-17.b"));
        assert!(!wildcard_matches("line-?", "line-"));
        assert!(!wildcard_matches("[ab]", "a"));
        assert!(wildcard_matches("**", ""));
    }

    #[test]
    fn a_pattern_of_many_stars_ends_soon() {
        assert!(!wildcard_matches(&"*a".repeat(500), &"a".repeat(499)));
        assert!(!wildcard_matches(&format!("{}b", "*a".repeat(200)), &"a".repeat(20_000)));
    }

    #[test]
    fn a_comparison_ends_where_its_work_does() {
        let (pattern, path) = (format!("*{}b", "a".repeat(20_000)), "a".repeat(40_000));
        let mut work = Work::new();
        assert!(!super::path_matches(&pattern, &path, &mut work));
        assert!(work.is_spent());
        assert!(!super::path_matches("a", "a", &mut work), "nothing matches any more");
    }

    proptest! {
        #[test]
        fn never_panics(pattern: String, text: String) {
            path_matches(&pattern, &text);
            wildcard_matches(&pattern, &text);
        }

        #[test]
        fn a_text_without_wildcards_matches_itself_alone(a in "[a-z/.]{0,8}", b in "[a-z/.]{0,8}") {
            prop_assert_eq!(path_matches(&a, &b), a == b);
            prop_assert_eq!(wildcard_matches(&a, &b), a == b);
        }
    }
}
