// Planes: plain numbers that a model makes a picture of, as a picture that can be shown.

import Foundation

enum Planes {
    /// Numbers of shape [..., C, H, W] or [H, W]: three planes are colours, of any other count the first is gray.
    static func picture(_ values: [Float], shape: [Int]) -> Raster? {
        guard shape.count >= 2, let (low, high) = range(values) else { return nil }
        let (height, width) = (shape[shape.count - 2], shape[shape.count - 1])
        let area = height * width
        guard area > 0, values.count >= area else { return nil }
        let planes = values.count / area
        var pixels = [UInt8](repeating: 0, count: area * Raster.channels)
        for place in 0..<area {
            for c in 0..<Raster.channels {
                let value = values[(planes == Raster.channels ? c : 0) * area + place]
                let level = 255 * (value - low) / (high - low)
                pixels[place * Raster.channels + c] = level.isFinite ? UInt8(max(0, min(255, level.rounded()))) : 0
            }
        }
        return Raster(width: width, height: height, pixels: pixels)
    }

    /// Black and white: 0 and 255, or 0 and 1, where nearly all numbers lie between and fill a good part, else what there is.
    private static func range(_ values: [Float]) -> (Float, Float)? {
        let known = values.filter(\.isFinite)
        guard let low = known.min(), let high = known.max(), high > low else { return nil }
        for white in [Float(1), 255] {
            let inside = known.filter { $0 >= -0.02 * white && $0 <= 1.02 * white }.count
            if inside * 100 >= 98 * known.count, high - low > 0.2 * white { return (0, white) }
        }
        return (low, high)
    }
}
