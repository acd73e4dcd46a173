//! The manual page, held to what the program says of itself.

use std::collections::BTreeSet;

use super::{CHECK_HELP, DOCTOR_HELP, HELP};

const PAGE: &str = include_str!("../dist/man/sanderling-agent.8");

/// The words of a help text that begin a line of the section `title`: its options, commands or exit statuses.
fn listed<'a>(help: &'a str, title: &str) -> BTreeSet<&'a str> {
    let section = help.split("\n\n").find_map(|section| section.strip_prefix(title)).unwrap_or_default();
    let lines = section.lines().filter_map(|line| line.strip_prefix("  "));
    lines.filter(|line| !line.starts_with(' ')).filter_map(|line| line.split(' ').next()).collect()
}

/// The same of a section of the page: the words after `macro_` in the lines that begin an item.
fn items<'a>(section: &str, macro_: &str) -> BTreeSet<&'a str> {
    let from = PAGE.find(&format!("\n.Sh {section}\n")).expect("the section") + 1;
    let text = &PAGE[from..];
    let text = text[1..].split_once("\n.Sh ").map_or(text, |(text, _)| text);
    let lines = text.lines().filter_map(|line| line.strip_prefix(".It "));
    lines.filter_map(|line| line.strip_prefix(macro_)?.split(' ').next()).collect()
}

#[test]
fn the_page_has_the_options_commands_and_exit_statuses_of_the_help() {
    let helps = [HELP, CHECK_HELP, DOCTOR_HELP];
    let of_help = |title: &str| helps.iter().flat_map(|help| listed(help, title)).collect::<BTreeSet<_>>();
    let options: BTreeSet<&str> = of_help("Options:\n").iter().filter_map(|word| word.strip_prefix("--")).collect();
    assert!(options.len() >= 6, "{options:?}");
    let flags = PAGE.split_whitespace().collect::<Vec<_>>();
    let flags = flags.windows(3).filter(|words| words[..2] == ["Fl", "Fl"]).map(|words| words[2]).collect();
    assert_eq!(options, flags);
    // What the program as a whole takes is described one by one.
    let own = listed(HELP, "Options:\n").iter().filter_map(|word| word.strip_prefix("--")).collect();
    assert_eq!(items("DESCRIPTION", "Fl Fl "), own);

    assert_eq!(items("COMMANDS", "Cm "), listed(HELP, "Commands:\n"));
    assert_eq!(items("EXIT STATUS", ""), of_help("Exit status:\n"));
}
