//! The walk through the tokens of a macro: paths, `use` groups, unsafe code and functions.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

use super::Scanner;

pub(super) fn walk(scanner: &mut Scanner, tokens: TokenStream) {
    let trees: Vec<TokenTree> = tokens.into_iter().collect();
    let mut idx = 0;
    while idx < trees.len() {
        match &trees[idx] {
            TokenTree::Group(group) => walk(scanner, group.stream()),
            // What follows a single dot is a field or a method.
            TokenTree::Ident(_) if is_member(&trees, idx) => {}
            TokenTree::Ident(ident) => {
                if ident == "unsafe" {
                    scanner.unsafe_at(ident.span());
                }
                if ident == "fn" {
                    function(scanner, &trees[idx + 1..]);
                }
                idx = path(scanner, &trees, idx, &[]);
                continue;
            }
            _ => {}
        }
        idx += 1;
    }
}

/// Reads a path that begins at `start`, and returns where it ends.
fn path(scanner: &mut Scanner, trees: &[TokenTree], start: usize, before: &[String]) -> usize {
    let mut segments = before.to_vec();
    let mut idx = start;
    loop {
        match trees.get(idx) {
            Some(TokenTree::Ident(ident)) => segments.push(ident.to_string()),
            Some(TokenTree::Punct(star)) if star.as_char() == '*' => segments.push("*".into()),
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                branches(scanner, group, &segments);
                return idx + 1;
            }
            _ => break,
        }
        idx += 1;
        if !is_separator(&trees[idx.min(trees.len())..]) {
            break;
        }
        idx += 2;
    }
    scanner.path(segments, trees[start].span());
    idx
}

/// The names in the braces of an import.
fn branches(scanner: &mut Scanner, group: &Group, before: &[String]) {
    let trees: Vec<TokenTree> = group.stream().into_iter().collect();
    let is_comma = |tree: &TokenTree| matches!(tree, TokenTree::Punct(p) if p.as_char() == ',');
    for branch in trees.split(is_comma).filter(|branch| !branch.is_empty()) {
        path(scanner, branch, 0, before);
    }
}

/// Measures the function whose name comes first, if it has one and a body.
fn function(scanner: &mut Scanner, rest: &[TokenTree]) {
    let Some(TokenTree::Ident(name)) = rest.first() else { return };
    for tree in rest {
        match tree {
            TokenTree::Punct(end) if end.as_char() == ';' => return,
            TokenTree::Group(body) if body.delimiter() == Delimiter::Brace => {
                let (open, close) = (body.span_open().start(), body.span_close().end());
                return scanner.function(name.to_string(), open, close);
            }
            _ => {}
        }
    }
}

fn is_separator(rest: &[TokenTree]) -> bool {
    rest.len() >= 2 && rest[..2].iter().all(|tree| is_punct(tree, ':'))
}

fn is_member(trees: &[TokenTree], idx: usize) -> bool {
    let is_dot = |back: usize| idx >= back && is_punct(&trees[idx - back], '.');
    is_dot(1) && !is_dot(2)
}

fn is_punct(tree: &TokenTree, sign: char) -> bool {
    matches!(tree, TokenTree::Punct(punct) if punct.as_char() == sign)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &str) -> Vec<String> {
        let mut scanner = Scanner::new(Vec::new());
        walk(&mut scanner, text.parse().unwrap());
        scanner.scan.paths.iter().map(|seen| seen.segments.join("::")).collect()
    }

    #[test]
    fn paths_are_read_whole() {
        assert_eq!(paths("a::b(c::d, &e)"), ["a::b", "c::d", "e"]);
        assert_eq!(paths("Vec::<a::B>::new()"), ["Vec", "a::B", "new"]);
        assert_eq!(paths("$crate::x::y!(z)"), ["crate::x::y", "z"]);
        assert_eq!(paths("x: a::B = 7"), ["x", "a::B"]);
    }

    #[test]
    fn members_are_not_paths_but_the_ends_of_ranges_are() {
        assert_eq!(paths("a.park().b"), ["a"]);
        assert_eq!(paths("a..b::C"), ["a", "b::C"]);
    }

    #[test]
    fn the_names_of_an_import_are_read_one_by_one() {
        let expected = ["use", "a::b", "a::c::d", "a::c::*", "a"];
        assert_eq!(paths("use a::{b, c::{d, *}}; a"), expected);
    }

    #[test]
    fn a_function_is_measured_and_a_mere_type_is_not() {
        let mut scanner = Scanner::new(Vec::new());
        let text = "fn long(x: fn(u8) -> u8) -> [u8; 3] {\n {\n}\n}\nfn declared(); {\n}";
        walk(&mut scanner, text.parse().unwrap());
        let seen = scanner.scan.functions.iter().map(|f| (f.name.as_str(), f.lines));
        assert_eq!(seen.collect::<Vec<_>>(), [("long", 4)]);
    }
}
