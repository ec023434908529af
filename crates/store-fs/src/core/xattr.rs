use super::{Filesystem, FsError, Kind, NodeId, table::Node};

/// The extended attribute with the digest of a directory.
pub const DIRECTORY_DIGEST_XATTR: &str = "user.snix.castore.directory.digest";
/// The extended attribute with the digest of a file's contents.
pub const BLOB_DIGEST_XATTR: &str = "user.snix.castore.blob.digest";

impl Filesystem {
    /// The value of an extended attribute: `blake3-` and the digest in base64.
    ///
    /// # Errors
    /// If the node has no such attribute, or attributes are off.
    pub fn getxattr(&self, node: NodeId, name: &[u8]) -> Result<Vec<u8>, FsError> {
        match self.xattr(node)? {
            Some((own, node)) if own.as_bytes() == name => {
                let digest = data_encoding::BASE64.encode(node.digest.as_bytes());
                Ok(format!("blake3-{digest}").into_bytes())
            }
            Some(_) | None => Err(FsError::NoSuchXattr),
        }
    }

    /// The names of a node's extended attributes, each ended by a NUL byte.
    ///
    /// # Errors
    /// If there is no such node, or attributes are off.
    pub fn listxattr(&self, node: NodeId) -> Result<Vec<u8>, FsError> {
        let name = self.xattr(node)?.map(|(name, _)| name);
        Ok(name.map_or(Vec::new(), |name| format!("{name}\0").into_bytes()))
    }

    fn xattr(&self, node: NodeId) -> Result<Option<(&'static str, Node)>, FsError> {
        if !self.options.xattrs {
            return Err(FsError::XattrsOff);
        }
        if node == NodeId::ROOT {
            return Ok(None);
        }
        let (_, node) = self.node(node)?;
        Ok(match node.kind {
            Kind::Directory => Some((DIRECTORY_DIGEST_XATTR, node)),
            Kind::File { .. } => Some((BLOB_DIGEST_XATTR, node)),
            Kind::Symlink => None,
        })
    }
}
