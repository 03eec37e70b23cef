// Geometry: which part of a photo the model sees, upright and at its size, exactly as in the verification.

import Foundation

/// Interleaved RGB, 8 bits a channel, upright.
struct Raster: Sendable {
    let width: Int
    let height: Int
    var pixels: [UInt8]

    static let channels = 3

    func cropped(left: Int, top: Int, width: Int, height: Int) -> Raster {
        var out = [UInt8](repeating: 0, count: width * height * Raster.channels)
        for y in 0..<height where (0..<self.height).contains(y + top) {
            for x in 0..<width where (0..<self.width).contains(x + left) {
                let from = ((y + top) * self.width + x + left) * Raster.channels
                let to = (y * width + x) * Raster.channels
                for c in 0..<Raster.channels { out[to + c] = pixels[from + c] }
            }
        }
        return Raster(width: width, height: height, pixels: out)
    }

    /// ITU-R 601-2 luma in the integers that Pillow uses.
    func luma(_ place: Int) -> UInt8 {
        let at = place * Raster.channels
        return UInt8((Int(pixels[at]) * 19595 + Int(pixels[at + 1]) * 38470 + Int(pixels[at + 2]) * 7471 + 0x8000) >> 16)
    }
}

/// Rows of pixels as a decoder leaves them: ``bytes`` a pixel, of which the first three are red, green, blue, or the one is gray.
struct Stored {
    let width: Int
    let height: Int
    let bytes: Int
    let pixels: [UInt8]

    /// Turned upright as the EXIF tag (1-8) says: 2 and 4 are mirrored, 3 is upside down, 5 to 8 lie on their side.
    func upright(exif: Int) -> Raster {
        let (w, h) = exif >= 5 ? (height, width) : (width, height)
        // the way to the pixel on the right and to the one below is the same everywhere
        let origin = place(0, 0, exif)
        let (across, down) = ((place(1, 0, exif) - origin) * bytes, (place(0, 1, exif) - origin) * bytes)
        let second = bytes > 1 ? 1 : 0
        var out = [UInt8](repeating: 0, count: w * h * Raster.channels)
        pixels.withUnsafeBufferPointer { from in
            out.withUnsafeMutableBufferPointer { to in
                var (y, next) = (0, 0)
                while y < h {
                    var (x, at) = (0, origin * bytes + y &* down)
                    while x < w {
                        to[next] = from[at]
                        to[next &+ 1] = from[at &+ second]
                        to[next &+ 2] = from[at &+ 2 &* second]
                        (x, at, next) = (x &+ 1, at &+ across, next &+ Raster.channels)
                    }
                    y &+= 1
                }
            }
        }
        return Raster(width: w, height: h, pixels: out)
    }

    /// Which stored pixel stands at (x, y) of the upright picture.
    private func place(_ x: Int, _ y: Int, _ exif: Int) -> Int {
        let (right, bottom) = (width - 1, height - 1)
        let column, row: Int
        switch exif {
        case 2: (column, row) = (right - x, y)
        case 3: (column, row) = (right - x, bottom - y)
        case 4: (column, row) = (x, bottom - y)
        case 5: (column, row) = (y, x)
        case 6: (column, row) = (y, bottom - x)
        case 7: (column, row) = (right - y, bottom - x)
        case 8: (column, row) = (right - y, x)
        default: (column, row) = (x, y)
        }
        return row * width + column
    }
}

extension Plan.Picture {
    var words: String {
        if squash { return "Stretched to \(width)×\(height), \(interpolation)" }
        return "Shorter side \(resizeTo.map(String.init) ?? "fitted"), centre \(width)×\(height), \(interpolation)"
    }

    /// The part of the photo that the model sees, at the size at which it sees it.
    func fit(_ raster: Raster) -> Raster {
        let resampler = Resampler(filter: Resampler.Filter(interpolation), tallFirst: tallFirst)
        let part = cut(raster.width, raster.height)
        let scaled = resampler.resize(raster, width: part.width, height: part.height)
        return squash ? scaled : scaled.cropped(left: part.left, top: part.top, width: width, height: height)
    }

    /// The size that a photo of this size is scaled to, and where in it the model's picture begins.
    func cut(_ w: Int, _ h: Int) -> (width: Int, height: Int, left: Int, top: Int) {
        if squash { return (width, height, 0, 0) }
        let scaled: (width: Int, height: Int)
        if let short = resizeTo {
            let long = Int(Double(short * max(w, h)) / Double(min(w, h)))
            scaled = w <= h ? (short, long) : (long, short)
        } else {
            let ratio = max(Double(width) / Double(w), Double(height) / Double(h))
            scaled = (max(width, Int((Double(w) * ratio).rounded(.toNearestOrEven))),
                      max(height, Int((Double(h) * ratio).rounded(.toNearestOrEven))))
        }
        let left = Int((Double(scaled.width - width) / 2).rounded(.toNearestOrEven))
        let top = Int((Double(scaled.height - height) / 2).rounded(.toNearestOrEven))
        return (scaled.width, scaled.height, left, top)
    }

    /// A box of the model's own view, in shares of it, as shares of the photo of this size that the view was cut from.
    func shares(of box: Box, width w: Int, height h: Int) -> (left: Float, top: Float, right: Float, bottom: Float) {
        let part = cut(w, h)
        let across = { (share: Float) in (share * Float(width) + Float(part.left)) / Float(part.width) }
        let down = { (share: Float) in (share * Float(height) + Float(part.top)) / Float(part.height) }
        return (across(box.left), down(box.top), across(box.right), down(box.bottom))
    }

    /// What a model that takes plain numbers is given for a raster of its own size, in the order of its array.
    func numbers(_ raster: Raster) -> [Float] {
        let planes = colour.isGray ? 1 : Raster.channels
        let area = raster.width * raster.height
        var values = [Float](repeating: 0, count: planes * area)
        for place in 0..<area {
            for c in 0..<planes {
                let channel = colour == .bgr ? planes - 1 - c : c
                let pixel = colour.isGray ? raster.luma(place) : raster.pixels[place * Raster.channels + channel]
                let value = (Float(pixel) * scale - mean[min(c, mean.count - 1)]) / std[min(c, std.count - 1)]
                values[channelsLast ? place * planes + c : c * area + place] = value
            }
        }
        return values
    }
}
