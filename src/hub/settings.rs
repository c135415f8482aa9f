//! Attachments of Remote Settings: files below a base URL that the server tells, as a storage bucket gives them.

use crate::model::Resource;
use crate::request::encode_path;

pub(super) fn file_path(resource: &Resource) -> String {
    format!("/{}", encode_path(&resource.path))
}
