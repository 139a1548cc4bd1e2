//! `cargo xtask docs`: the pages below `docs/reference`, from what the programs say of themselves.

mod markdown;
mod metrics;
mod pages;
mod reference;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::workspace;
use reference::Reference;

const NOTE: &str =
    "<!-- Written by `cargo xtask docs` from what the programs say of themselves: change them, not this page. -->\n\n";

/// Write or compare.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Write nothing; fail if a page is not what it should be.
    #[arg(long)]
    check: bool,
}

/// A page and the name of its file.
struct Page {
    name: String,
    text: String,
}

pub(crate) fn docs(options: &Options) -> Result<()> {
    reference::build_programs()?;
    if options.check {
        return check();
    }
    write(&directory(), &generate(&reference::of_all_programs()?)?)
}

/// Compares the pages with what the programs say, as they were built last.
pub(crate) fn check() -> Result<()> {
    check_fresh(&directory(), &generate(&reference::of_all_programs()?)?)
}

fn directory() -> PathBuf {
    workspace::root().join("docs/reference")
}

fn generate(references: &[Reference]) -> Result<Vec<Page>> {
    let (first, others) = references.split_first().context("there are no programs")?;
    ensure!(
        others.iter().all(|other| other.exit_codes == first.exit_codes),
        "the programs differ in what their exit codes mean"
    );
    let page = |name: &str, text: String| Page { name: name.to_owned(), text: format!("{NOTE}{text}") };
    let mut pages: Vec<Page> =
        references.iter().map(|reference| page(&pages::page_of(reference), pages::configuration(reference))).collect();
    pages.push(page("commands.md", pages::commands(references)));
    pages.push(page("metrics.md", metrics::page(references)?));
    pages.push(page("exit-codes.md", pages::exit_codes(&first.exit_codes)));
    Ok(pages)
}

fn write(directory: &Path, pages: &[Page]) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    let mut written = 0;
    for page in pages {
        let path = directory.join(&page.name);
        if fs::read_to_string(&path).ok().as_deref() != Some(&page.text) {
            fs::write(&path, &page.text).with_context(|| format!("cannot write {}", path.display()))?;
            println!("wrote {}", path.display());
            written += 1;
        }
    }
    for path in superfluous(directory, pages)? {
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        println!("removed {}", path.display());
    }
    println!("{} pages, {written} of them new", pages.len());
    Ok(())
}

/// Every page is there with this text, and no other is.
fn check_fresh(directory: &Path, pages: &[Page]) -> Result<()> {
    let mut stale: Vec<PathBuf> = pages
        .iter()
        .filter(|page| fs::read_to_string(directory.join(&page.name)).ok().as_deref() != Some(&page.text))
        .map(|page| directory.join(&page.name))
        .collect();
    stale.extend(superfluous(directory, pages)?);
    if stale.is_empty() {
        println!("{} pages are what the programs say", pages.len());
        return Ok(());
    }
    let names: Vec<String> = stale.iter().map(|path| path.display().to_string()).collect();
    bail!("run `cargo xtask docs` and commit what it writes; stale: {}", names.join(", "));
}

/// Files in the directory that nothing generates any more.
fn superfluous(directory: &Path, pages: &[Page]) -> Result<Vec<PathBuf>> {
    let Ok(entries) = fs::read_dir(directory) else { return Ok(Vec::new()) };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !pages.iter().any(|page| page.name == name) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(name: &str, text: &str) -> Page {
        Page { name: name.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn a_page_that_is_stale_missing_or_superfluous_fails_the_check_and_writing_mends_it() {
        let directory = workspace::target().join("xtask-tests").join(format!("docs-{}", std::process::id()));
        let pages = [page("a.md", "one\n"), page("b.md", "two\n")];
        write(&directory, &pages).unwrap();
        check_fresh(&directory, &pages).unwrap();

        fs::write(directory.join("a.md"), "won\n").unwrap();
        fs::remove_file(directory.join("b.md")).unwrap();
        fs::write(directory.join("c.md"), "three\n").unwrap();
        let error = check_fresh(&directory, &pages).unwrap_err().to_string();
        assert!(["a.md", "b.md", "c.md", "cargo xtask docs"].iter().all(|part| error.contains(part)), "{error}");

        write(&directory, &pages).unwrap();
        check_fresh(&directory, &pages).unwrap();
        fs::remove_dir_all(directory).unwrap();
    }
}
