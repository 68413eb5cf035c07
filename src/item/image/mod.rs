//! Items as images: a pre-trained vision encoder, pooling, projection.

mod backbone;
mod batch;
mod encoder;
mod folder;
pub mod pixels;
mod positions;
pub mod resnet;
pub mod swin;
pub mod vit;

pub use backbone::{Backbone, file_names};
pub use batch::Images;
pub use encoder::{FrozenImageEncoder, ImageEncoder};
pub use folder::{ImageFolder, VisionConfig};
pub use pixels::{COST, PixelStore, Pixels};
pub use resnet::{ResNet, ResNetConfig};
pub use swin::{Swin, SwinConfig};
pub use vit::{Vit, VitConfig};
