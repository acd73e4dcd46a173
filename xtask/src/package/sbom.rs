//! A package's bill of materials, as CycloneDX has it, and the licences of what is linked into its programs.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{
    Kind,
    crates::{Crate, Id},
    version::Version,
};

/// The bill: the package, its crates, and who depends on whom. What only helps to build is there with the scope `excluded`.
pub(super) fn bill(kind: &Kind, version: &Version, target: &str, crates: &[Crate]) -> Result<String> {
    let package = format!("pkg:deb/sanderling/{}@{version}", kind.name);
    let own = kind.crates.iter().map(|name| reference(&(name.to_string(), env!("CARGO_PKG_VERSION").to_owned())));
    let mut dependencies = vec![json!({ "ref": package, "dependsOn": own.collect::<Vec<_>>() })];
    dependencies.extend(crates.iter().map(|one| {
        let depends_on: Vec<String> = one.depends_on.iter().map(reference).collect();
        json!({ "ref": reference(&one.id), "dependsOn": depends_on })
    }));
    let bill = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": version.date_of_bill()?,
            "component": {
                "type": "application",
                "bom-ref": package,
                "name": kind.name,
                "version": version.to_string(),
                "purl": package,
                "licenses": [{ "expression": "MIT OR Apache-2.0" }],
                "properties": [{ "name": "cdx:rustc:sbom:target:triple", "value": target }],
            },
        },
        "components": crates.iter().map(component).collect::<Vec<_>>(),
        "dependencies": dependencies,
    });
    serde_json::to_string_pretty(&bill).context("the bill of materials cannot be written")
}

fn component(one: &Crate) -> Value {
    let mut component = json!({
        "type": "library",
        "bom-ref": reference(&one.id),
        "name": one.id.0,
        "version": one.id.1,
        "scope": if one.linked { "required" } else { "excluded" },
    });
    if one.published {
        component["purl"] = json!(reference(&one.id));
    }
    if let Some(license) = &one.license {
        // Cargo once allowed a slash, which SPDX does not.
        component["licenses"] = json!([{ "expression": license.replace('/', " OR ") }]);
    }
    if let Some(description) = &one.description {
        component["description"] = json!(description);
    }
    if let Some(sha256) = &one.sha256 {
        component["hashes"] = json!([{ "alg": "SHA-256", "content": sha256 }]);
    }
    if let Some(repository) = &one.repository {
        component["externalReferences"] = json!([{ "type": "vcs", "url": repository }]);
    }
    component
}

fn reference((name, version): &Id) -> String {
    format!("pkg:cargo/{name}@{version}")
}

/// What the licences of linked crates ask for: their texts, each once, with the crates that it is of.
pub(super) fn licenses(crates: &[Crate]) -> Result<String> {
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut list = String::from("Crates that the programs of this package are linked with, and their licences.\n\n");
    for one in crates.iter().filter(|one| one.linked && one.published) {
        let (name, version) = &one.id;
        let files = files(&one.folder)?;
        let without = if files.is_empty() { "; the crate brings no text" } else { "" };
        let license = one.license.as_deref().unwrap_or("see its text");
        let _ = writeln!(list, "{name} {version}: {license}{without}");
        for file in files {
            let text = fs::read(&file).with_context(|| format!("could not read {}", file.display()))?;
            let text = String::from_utf8_lossy(&text).replace("\r\n", "\n").trim().to_owned();
            texts.entry(text).or_default().push(format!("{name} {version}"));
        }
    }
    for (text, of) in texts {
        let _ = write!(list, "\n{}\n{}\n\n{text}\n", "-".repeat(80), of.join(", "));
    }
    Ok(list)
}

/// The files of a crate that say under which terms it may be passed on.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    const NAMES: [&str; 6] = ["license", "licence", "copying", "copyright", "notice", "unlicense"];
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("could not look at {}", folder.display()))? {
        let path = entry.context("could not look at a crate's file")?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        if path.is_file() && NAMES.iter().any(|begin| name.starts_with(begin)) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn one(name: &str, linked: bool, folder: &Path) -> Crate {
        Crate {
            id: (name.to_owned(), "1.0.0".to_owned()),
            linked,
            depends_on: BTreeSet::new(),
            license: Some("MIT/Apache-2.0".to_owned()),
            description: None,
            repository: None,
            published: true,
            sha256: None,
            folder: folder.to_owned(),
        }
    }

    #[test]
    fn a_component_says_whether_it_is_in_the_program() {
        let component = component(&one("a", true, Path::new("/")));
        assert_eq!(
            (component["scope"].as_str(), component["purl"].as_str()),
            (Some("required"), Some("pkg:cargo/a@1.0.0"))
        );
        assert_eq!(component["licenses"][0]["expression"], "MIT OR Apache-2.0");
        assert_eq!(super::component(&one("b", false, Path::new("/")))["scope"], "excluded");
    }

    #[test]
    fn the_text_of_a_licence_is_there_once() {
        let folder = std::env::temp_dir().join(format!("sanderling-licenses-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("LICENSE-MIT"), "As you like.\n").unwrap();
        let text = licenses(&[one("a", true, &folder), one("b", true, &folder), one("c", false, &folder)]).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(text.matches("As you like.").count(), 1);
        assert!(text.contains("a 1.0.0, b 1.0.0") && !text.contains("c 1.0.0"), "{text}");
    }
}
