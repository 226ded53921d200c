//! What stands in a Rust file, as far as the rules ask for it: the paths it names, its unsafe code
//! and the lengths of its functions.
//!
//! Code is walked by `syn`. What stands in a macro is only tokens to it, and is walked by `tokens`:
//! paths, unsafe code and functions are found there too, conditional compilation is not.

mod only;
mod tokens;

use proc_macro2::{LineColumn, Span};
use quote::ToTokens;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

pub(super) use self::only::Only;
use super::Source;

/// What stands in one file.
pub(super) struct Scan {
    /// The module that the file is, from the root of its crate on.
    pub(super) module: Vec<String>,
    pub(super) paths: Vec<PathSeen>,
    pub(super) unsafes: Vec<UnsafeSeen>,
    pub(super) functions: Vec<Function>,
    /// The modules that are declared here, and in which builds they exist.
    gates: Vec<(Vec<String>, Only)>,
}

/// A path in the code, or one name of an import.
pub(super) struct PathSeen {
    pub(super) segments: Vec<String>,
    /// The module around it.
    pub(super) module: Vec<String>,
    pub(super) line: usize,
    pub(super) only: Only,
    pub(super) is_import: bool,
    /// By `pub use`: the name is for the user.
    pub(super) is_shown: bool,
}

pub(super) struct UnsafeSeen {
    pub(super) line: usize,
    pub(super) only: Only,
}

pub(super) struct Function {
    pub(super) name: String,
    pub(super) line: usize,
    /// From brace to brace.
    pub(super) lines: usize,
}

impl Scan {
    pub(super) fn new(path: &str, text: &str) -> syn::Result<Self> {
        let file = syn::parse_file(text)?;
        let mut scanner = Scanner::new(module_of(path));
        scanner.only = Only::of(&file.attrs);
        scanner.visit_file(&file);
        Ok(scanner.scan)
    }
}

/// Tells each file in which builds it exists: where it is declared, `#[cfg(test)] mod tests;` says
/// so, and it holds for the modules below as well.
pub(super) fn spread_gates(sources: &mut [Source]) {
    let scans = sources.iter().filter_map(|source| source.scan.as_ref());
    let gates: Vec<(Vec<String>, Only)> = scans.flat_map(|scan| scan.gates.clone()).collect();
    for scan in sources.iter_mut().filter_map(|source| source.scan.as_mut()) {
        let around = gates.iter().filter(|(module, _)| scan.module.starts_with(module));
        let only = around.fold(Only::default(), |only, (_, gate)| only.and(*gate));
        scan.paths.iter_mut().for_each(|seen| seen.only = seen.only.and(only));
        scan.unsafes.iter_mut().for_each(|seen| seen.only = seen.only.and(only));
    }
}

/// `src/table/list.rs` is the module `table::list`, `src/table/mod.rs` is `table`. Other crates of
/// the workspace keep their folder as the first name, and so mix with nothing.
fn module_of(path: &str) -> Vec<String> {
    let path = path.strip_suffix(".rs").unwrap_or(path);
    let mut module: Vec<String> = path.split('/').map(String::from).collect();
    if module.first().is_some_and(|first| first == "src") {
        module.remove(0);
    }
    if module.last().is_some_and(|last| matches!(last.as_str(), "mod" | "lib")) {
        module.pop();
    }
    module
}

/// The walk through one file.
struct Scanner {
    scan: Scan,
    /// The module and the condition around the present place.
    module: Vec<String>,
    only: Only,
}

impl Scanner {
    fn new(module: Vec<String>) -> Self {
        let scan = Scan {
            module: module.clone(),
            paths: Vec::new(),
            unsafes: Vec::new(),
            functions: Vec::new(),
            gates: Vec::new(),
        };
        Self { scan, module, only: Only::default() }
    }

    /// Walks a node under the conditions that stand before it.
    fn under<T: ToTokens>(&mut self, node: &T, walk: impl FnOnce(&mut Self)) {
        let outer = self.only;
        self.only = outer.and(Only::before(node));
        walk(self);
        self.only = outer;
    }

    fn path(&mut self, segments: Vec<String>, at: Span) -> &mut PathSeen {
        self.scan.paths.push(PathSeen {
            segments,
            module: self.module.clone(),
            line: at.start().line,
            only: self.only,
            is_import: false,
            is_shown: false,
        });
        self.scan.paths.last_mut().expect("it was pushed just now")
    }

    fn import(&mut self, before: &[String], tree: &syn::UseTree, is_shown: bool) {
        let joined = |ident: &dyn ToString| [before, &[ident.to_string()]].concat();
        let segments = match tree {
            syn::UseTree::Path(path) => {
                return self.import(&joined(&path.ident), &path.tree, is_shown);
            }
            syn::UseTree::Group(group) => {
                return group.items.iter().for_each(|tree| self.import(before, tree, is_shown));
            }
            syn::UseTree::Name(name) if name.ident == "self" => before.to_vec(),
            syn::UseTree::Rename(name) if name.ident == "self" => before.to_vec(),
            syn::UseTree::Name(name) => joined(&name.ident),
            syn::UseTree::Rename(name) => joined(&name.ident),
            _ => joined(&"*"),
        };
        let seen = self.path(segments, tree.span());
        seen.is_import = true;
        seen.is_shown = is_shown;
    }

    fn unsafe_at(&mut self, at: Span) {
        self.scan.unsafes.push(UnsafeSeen { line: at.start().line, only: self.only });
    }

    fn function(&mut self, name: String, open: LineColumn, close: LineColumn) {
        let lines = close.line - open.line + 1;
        self.scan.functions.push(Function { name, line: open.line, lines });
    }

    fn signature_and_body(&mut self, sig: &syn::Signature, body: Option<&syn::Block>) {
        if let syn::Safety::Unsafe(token) = &sig.safety {
            self.unsafe_at(token.span);
        }
        if let Some(block) = body {
            let braces = block.brace_token.span;
            self.function(sig.ident.to_string(), braces.open().start(), braces.close().end());
        }
    }
}

impl<'ast> Visit<'ast> for Scanner {
    fn visit_item(&mut self, node: &'ast syn::Item) {
        self.under(node, |scanner| visit::visit_item(scanner, node));
    }

    fn visit_impl_item(&mut self, node: &'ast syn::ImplItem) {
        self.under(node, |scanner| visit::visit_impl_item(scanner, node));
    }

    fn visit_trait_item(&mut self, node: &'ast syn::TraitItem) {
        self.under(node, |scanner| visit::visit_trait_item(scanner, node));
    }

    fn visit_stmt(&mut self, node: &'ast syn::Stmt) {
        self.under(node, |scanner| visit::visit_stmt(scanner, node));
    }

    fn visit_field(&mut self, node: &'ast syn::Field) {
        self.under(node, |scanner| visit::visit_field(scanner, node));
    }

    fn visit_field_value(&mut self, node: &'ast syn::FieldValue) {
        self.under(node, |scanner| visit::visit_field_value(scanner, node));
    }

    fn visit_variant(&mut self, node: &'ast syn::Variant) {
        self.under(node, |scanner| visit::visit_variant(scanner, node));
    }

    fn visit_arm(&mut self, node: &'ast syn::Arm) {
        self.under(node, |scanner| visit::visit_arm(scanner, node));
    }

    fn visit_item_mod(&mut self, node: &'ast syn::ItemMod) {
        self.module.push(node.ident.to_string());
        if node.content.is_none() {
            self.scan.gates.push((self.module.clone(), self.only));
        }
        visit::visit_item_mod(self, node);
        self.module.pop();
    }

    fn visit_item_use(&mut self, node: &'ast syn::ItemUse) {
        self.import(&[], &node.tree, matches!(node.vis, syn::Visibility::Public(_)));
    }

    fn visit_item_extern_crate(&mut self, node: &'ast syn::ItemExternCrate) {
        self.path(vec![node.ident.to_string()], node.span()).is_import = true;
    }

    fn visit_path(&mut self, node: &'ast syn::Path) {
        let segments = node.segments.iter().map(|segment| segment.ident.to_string());
        self.path(segments.collect(), node.span());
        visit::visit_path(self, node);
    }

    fn visit_macro(&mut self, node: &'ast syn::Macro) {
        self.visit_path(&node.path);
        tokens::walk(self, node.tokens.clone());
    }

    fn visit_item_fn(&mut self, node: &'ast syn::ItemFn) {
        self.signature_and_body(&node.sig, Some(&node.block));
        visit::visit_item_fn(self, node);
    }

    fn visit_impl_item_fn(&mut self, node: &'ast syn::ImplItemFn) {
        self.signature_and_body(&node.sig, Some(&node.block));
        visit::visit_impl_item_fn(self, node);
    }

    fn visit_trait_item_fn(&mut self, node: &'ast syn::TraitItemFn) {
        self.signature_and_body(&node.sig, node.default.as_ref());
        visit::visit_trait_item_fn(self, node);
    }

    fn visit_expr_unsafe(&mut self, node: &'ast syn::ExprUnsafe) {
        self.unsafe_at(node.unsafe_token.span);
        visit::visit_expr_unsafe(self, node);
    }

    fn visit_item_impl(&mut self, node: &'ast syn::ItemImpl) {
        node.unsafety.iter().for_each(|token| self.unsafe_at(token.span));
        visit::visit_item_impl(self, node);
    }

    fn visit_item_trait(&mut self, node: &'ast syn::ItemTrait) {
        node.unsafety.iter().for_each(|token| self.unsafe_at(token.span));
        visit::visit_item_trait(self, node);
    }

    fn visit_item_foreign_mod(&mut self, node: &'ast syn::ItemForeignMod) {
        node.unsafety.iter().for_each(|token| self.unsafe_at(token.span));
        visit::visit_item_foreign_mod(self, node);
    }

    /// Attributes name no code of ours, but one kind of them is unsafe code.
    fn visit_attribute(&mut self, node: &'ast syn::Attribute) {
        if node.path().is_ident("unsafe") {
            self.unsafe_at(node.span());
        }
    }

    /// `pub(in crate::table)` uses nothing.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}
}
