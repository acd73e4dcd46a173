//! Crops and resizes 8-bit pixels.
//!
//! The arithmetic is that of Pillow: two passes with 8-bit pixels between them, a triangle that widens when the image
//! shrinks for `bilinear`, the mean of the covered pixels for `area`.

use fast_image_resize::{
    FilterType, PixelTrait, ResizeAlg, ResizeOptions, Resizer,
    images::{TypedCroppedImage, TypedImage, TypedImageRef},
    pixels::{U8, U8x3},
};
use sanderling_guest::image::Filter;

use super::{
    ImageError,
    source::{Crop, View},
};

/// The resizer and its buffers.
#[derive(Default)]
pub(super) struct Scaler {
    resizer: Resizer,
    resized: Vec<u8>,
}

impl Scaler {
    /// The bytes that [`Scaler::scale`] needs for a crop of this size: the result, and the rows between the passes.
    pub(super) fn needs(crop: &Crop, (width, height): (usize, usize), channels: usize) -> usize {
        let rows = height.saturating_add(crop.height);
        width.saturating_mul(rows).saturating_mul(channels)
    }

    /// The crop of `image` at another size. An image that has the size already is not copied.
    pub(super) fn scale<'a>(
        &'a mut self,
        image: View<'a>,
        crop: &Crop,
        channels: usize,
        (width, height): (usize, usize),
        filter: Filter,
    ) -> Result<&'a [u8], ImageError> {
        let len = width * height * channels;
        if crop.width == width && crop.height == height && image.width == width {
            let start = crop.y * width * channels;
            return image.bytes.get(start..start + len).ok_or_else(|| refused("rows are missing"));
        }
        if self.resized.len() < len {
            self.resized.resize(len, 0);
        }
        let out = self.resized.get_mut(..len).ok_or_else(|| refused("the buffer is too short"))?;
        if channels == 1 {
            resize::<U8>(&mut self.resizer, image, crop, out, (width, height), filter)?;
        } else {
            resize::<U8x3>(&mut self.resizer, image, crop, out, (width, height), filter)?;
        }
        Ok(out)
    }
}

fn resize<P: PixelTrait>(
    resizer: &mut Resizer,
    image: View<'_>,
    crop: &Crop,
    out: &mut [u8],
    (width, height): (usize, usize),
    filter: Filter,
) -> Result<(), ImageError> {
    let whole = TypedImageRef::<P>::from_buffer(side(image.width)?, side(image.height)?, image.bytes)
        .map_err(|error| refused(&error.to_string()))?;
    // A view of its own, and not the resizer's crop box: that would let pixels outside of the crop into its edge.
    let (x, y) = (side(crop.x)?, side(crop.y)?);
    let from = TypedCroppedImage::from_ref(&whole, x, y, side(crop.width)?, side(crop.height)?)
        .map_err(|error| refused(&error.to_string()))?;
    let mut to =
        TypedImage::<P>::from_buffer(side(width)?, side(height)?, out).map_err(|error| refused(&error.to_string()))?;
    let algorithm = match filter {
        Filter::Nearest => ResizeAlg::Nearest,
        Filter::Bilinear => ResizeAlg::Convolution(FilterType::Bilinear),
        Filter::Area => ResizeAlg::Convolution(FilterType::Box),
    };
    let options = ResizeOptions::new().resize_alg(algorithm).use_alpha(false);
    resizer.resize_typed(&from, &mut to, &options).map_err(|error| refused(&error.to_string()))
}

fn side(side: usize) -> Result<u32, ImageError> {
    u32::try_from(side).map_err(|_| refused("a side is longer than 2^32 pixels"))
}

fn refused(reason: &str) -> ImageError {
    ImageError::Resize(reason.to_owned())
}
