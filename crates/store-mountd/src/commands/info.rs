use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::Result;
use castore::{
    Node,
    local::{FORMAT_VERSION, LocalStore},
};
use clap::Args;
use indicatif::HumanBytes;
use nix_compat::{NixHash, StorePath};
use serde_json::{Value, json};
use store::PathInfo;

use crate::{
    commands::ls,
    open::StoreDir,
    place::{StorePathArg, store_path_parser},
};

/// Say what a store holds, or what it knows of a store path.
#[derive(Debug, Args)]
pub(crate) struct Info {
    /// A store path. Without it, the store as a whole is described.
    #[arg(value_name = "PATH", value_parser = store_path_parser())]
    path: Option<StorePathArg>,

    /// As JSON.
    #[arg(long)]
    json: bool,
}

impl Info {
    pub(crate) fn run(self, dir: &StoreDir) -> Result<ExitCode> {
        let store = dir.open()?;
        let text = match (&self.path, self.json) {
            (None, json) => store_info(&store, json)?,
            (Some(path), true) => format!("{:#}\n", path_json(&path.info(&store)?)),
            (Some(path), false) => path_text(&path.info(&store)?),
        };
        io::stdout().write_all(text.as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }
}

fn store_info(store: &LocalStore, json: bool) -> Result<String> {
    let statistics = store.statistics()?;
    let path = store.path().display();
    Ok(match json {
        true => {
            let value = json!({
                "store": path.to_string(),
                "format": FORMAT_VERSION,
                "paths": statistics.records,
                "directories": statistics.directories,
                "blobs": statistics.blobs,
                "blobBytes": statistics.blob_bytes,
                "packs": statistics.packs,
                "indexes": statistics.indexes,
            });
            format!("{value:#}\n")
        }
        false => format!(
            "Store:       {path}\n\
             Format:      {FORMAT_VERSION}\n\
             Paths:       {}\n\
             Directories: {}\n\
             Blobs:       {} ({})\n\
             Packs:       {}\n\
             Indexes:     {}\n",
            statistics.records,
            statistics.directories,
            statistics.blobs,
            HumanBytes(statistics.blob_bytes),
            statistics.packs,
            statistics.indexes,
        ),
    })
}

/// The lines that a narinfo file has, without those of a file.
fn path_text(info: &PathInfo) -> String {
    let narinfo = info.to_narinfo(String::new()).to_string();
    let mut text: String = narinfo
        .split_inclusive('\n')
        .filter(|line| {
            !["URL:", "Compression:", "FileHash:", "FileSize:"]
                .iter()
                .any(|key| line.starts_with(key))
        })
        .collect();
    text.push_str(&match &info.node {
        Node::Directory { digest, .. } => format!("Root: directory {digest}\n"),
        Node::File {
            digest,
            size,
            executable,
        } => {
            let executable = if *executable { "executable " } else { "" };
            format!("Root: {executable}file {digest} ({size} bytes)\n")
        }
        Node::Symlink { target } => format!("Root: symlink to {}\n", target.escape_ascii()),
    });
    text
}

fn path_json(info: &PathInfo) -> Value {
    let absolute = |paths: &mut dyn Iterator<Item = &StorePath>| -> Vec<_> {
        paths.map(StorePath::to_absolute_path).collect()
    };
    json!({
        "path": info.store_path.to_absolute_path(),
        "root": ls::attributes(&info.node),
        "narHash": NixHash::Sha256(info.nar_sha256).to_sri(),
        "narSize": info.nar_size,
        "references": absolute(&mut info.references.iter()),
        "deriver": info.deriver.as_ref().map(StorePath::to_absolute_path),
        "signatures": info.signatures.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "ca": info.ca.as_ref().map(ToString::to_string),
    })
}
