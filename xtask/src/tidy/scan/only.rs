//! In which builds a piece of code exists, as its `cfg` attributes say.

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::punctuated::Punctuated;
use syn::{Attribute, Meta, MetaList, Token};

/// The special builds without which a piece of code does not exist; none for code that is shipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Only {
    /// In unit tests.
    pub(in super::super) test: bool,
    /// Under the model checker, or shuttle.
    pub(in super::super) loom: bool,
    /// With a bug planted on purpose, `cfg(planted = "…")`.
    pub(in super::super) planted: bool,
}

impl Only {
    /// What the attributes of a file or an item ask for.
    pub(super) fn of(attrs: &[Attribute]) -> Self {
        attrs.iter().fold(Self::default(), |only, attr| only.and(Self::of_attribute(&attr.meta)))
    }

    /// What the attributes that a node begins with ask for. They are read off its tokens, because
    /// that is one way for every kind of node.
    pub(super) fn before(node: &impl ToTokens) -> Self {
        let mut tokens = node.to_token_stream().into_iter();
        let mut only = Self::default();
        while let Some(attribute) = next_attribute(&mut tokens) {
            if let Ok(meta) = syn::parse2::<Meta>(attribute) {
                only = only.and(Self::of_attribute(&meta));
            }
        }
        only
    }

    /// Code under both conditions.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            test: self.test || other.test,
            loom: self.loom || other.loom,
            planted: self.planted || other.planted,
        }
    }

    /// Code under either condition.
    fn or(self, other: Self) -> Self {
        Self {
            test: self.test && other.test,
            loom: self.loom && other.loom,
            planted: self.planted && other.planted,
        }
    }

    fn of_attribute(meta: &Meta) -> Self {
        match meta {
            Meta::List(list) if list.path.is_ident("cfg") => list
                .parse_args::<Meta>()
                .map_or_else(|_| Self::default(), |meta| Self::of_cfg(&meta)),
            _ => Self::default(),
        }
    }

    fn of_cfg(meta: &Meta) -> Self {
        let path = meta.path();
        match meta {
            Meta::List(list) if path.is_ident("all") => {
                operands(list).fold(Self::default(), Self::and)
            }
            Meta::List(list) if path.is_ident("any") => {
                operands(list).reduce(Self::or).unwrap_or_default()
            }
            Meta::List(_) => Self::default(),
            _ => Self {
                test: path.is_ident("test"),
                loom: path.is_ident("loom") || path.is_ident("shuttle"),
                planted: path.is_ident("planted"),
            },
        }
    }
}

fn operands(list: &MetaList) -> impl Iterator<Item = Only> {
    let metas = list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated);
    metas.unwrap_or_default().into_iter().map(|meta| Only::of_cfg(&meta))
}

/// The inside of `#[…]`, if that is what comes next.
fn next_attribute(tokens: &mut impl Iterator<Item = TokenTree>) -> Option<TokenStream> {
    match (tokens.next()?, tokens.next()?) {
        (TokenTree::Punct(hash), TokenTree::Group(group)) if hash.as_char() == '#' => {
            Some(group.stream())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(text: &str) -> String {
        let item: syn::Item = syn::parse_str(&format!("{text} fn f() {{}}")).unwrap();
        let only = Only::before(&item);
        let names = [(only.test, "test"), (only.loom, "loom"), (only.planted, "planted")];
        let names: Vec<&str> = names.iter().filter(|(is, _)| *is).map(|(_, name)| *name).collect();
        names.join(" ")
    }

    #[test]
    fn a_condition_is_what_the_code_cannot_do_without() {
        let conditions = [
            ("", ""),
            ("#[inline]", ""),
            ("#[cfg(test)]", "test"),
            ("#[inline] #[cfg(loom)]", "loom"),
            ("#[cfg(test)] #[cfg(loom)]", "test loom"),
            ("#[cfg(planted = \"lock\")]", "planted"),
            ("#[cfg(not(test))]", ""),
            ("#[cfg(all(test, not(loom), unix))]", "test"),
            ("#[cfg(any(test, loom))]", ""),
            ("#[cfg(any(all(test, unix), test))]", "test"),
            ("#[cfg(all())]", ""),
            ("#[cfg(any())]", ""),
            ("#[cfg(feature = \"test\")]", ""),
            ("#[cfg_attr(test, inline)]", ""),
            ("/// #[cfg(test)]\n", ""),
        ];
        for (text, expected) in conditions {
            assert_eq!(only(text), expected, "{text}");
        }
    }

    #[test]
    fn a_file_has_conditions_too() {
        let file = syn::parse_file("//! Models.\n#![cfg(loom)]\nfn f() {}").unwrap();
        assert_eq!(Only::of(&file.attrs), Only { loom: true, ..Only::default() });
    }
}
