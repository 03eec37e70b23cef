// Picture: a photo becomes the model's input exactly as in the verification: upright, scaled, cropped, in its channel order.

import CoreGraphics
import CoreML
import CoreVideo
import Foundation
import ImageIO
import UIKit

enum Picture {
    /// Decodes a file upright (EXIF orientation applied) over white, as 8-bit sRGB.
    static func decode(_ url: URL) throws -> Raster {
        guard let source = CGImageSourceCreateWithURL(url as CFURL, nil) else {
            throw Failure("\(url.lastPathComponent) is not a picture.")
        }
        return try decode(source)
    }

    static func decode(_ data: Data) throws -> Raster {
        guard let source = CGImageSourceCreateWithData(data as CFData, nil) else {
            throw Failure("This is not a picture.")
        }
        return try decode(source)
    }

    private static func decode(_ source: CGImageSource) throws -> Raster {
        guard let image = CGImageSourceCreateImageAtIndex(source, 0, nil) else {
            throw Failure("The picture cannot be read.")
        }
        let properties = CGImageSourceCopyPropertiesAtIndex(source, 0, nil) as? [CFString: Any]
        let raw = properties?[kCGImagePropertyOrientation] as? UInt32 ?? 1
        return try raster(image, orientation: CGImagePropertyOrientation(rawValue: raw) ?? .up)
    }

    /// The pixels of an image, turned upright.
    static func raster(_ image: CGImage, orientation: CGImagePropertyOrientation = .up) throws -> Raster {
        let (width, height) = (image.width, image.height)
        var rgba = [UInt8](repeating: 255, count: width * height * 4)
        let drawn = rgba.withUnsafeMutableBytes { buffer -> Bool in
            guard let space = CGColorSpace(name: CGColorSpace.sRGB),
                  let context = CGContext(data: buffer.baseAddress, width: width, height: height, bitsPerComponent: 8,
                                          bytesPerRow: width * 4, space: space,
                                          bitmapInfo: CGImageAlphaInfo.noneSkipLast.rawValue)
            else { return false }
            context.setFillColor(red: 1, green: 1, blue: 1, alpha: 1)
            context.fill(CGRect(x: 0, y: 0, width: width, height: height))
            context.interpolationQuality = .none
            context.draw(image, in: CGRect(x: 0, y: 0, width: width, height: height))
            return true
        }
        guard drawn else { throw Failure("The picture cannot be drawn.") }
        return turned(rgba, width: width, height: height, orientation: orientation)
    }

    private static func turned(_ rgba: [UInt8], width: Int, height: Int,
                               orientation: CGImagePropertyOrientation) -> Raster {
        let swaps = [.left, .right, .leftMirrored, .rightMirrored].contains(orientation)
        let (w, h) = swaps ? (height, width) : (width, height)
        var out = [UInt8](repeating: 0, count: w * h * Raster.channels)
        for y in 0..<h {
            for x in 0..<w {
                let (sx, sy): (Int, Int)
                switch orientation {
                case .up: (sx, sy) = (x, y)
                case .upMirrored: (sx, sy) = (width - 1 - x, y)
                case .down: (sx, sy) = (width - 1 - x, height - 1 - y)
                case .downMirrored: (sx, sy) = (x, height - 1 - y)
                case .leftMirrored: (sx, sy) = (y, x)
                case .right: (sx, sy) = (y, height - 1 - x)
                case .rightMirrored: (sx, sy) = (width - 1 - y, height - 1 - x)
                case .left: (sx, sy) = (width - 1 - y, x)
                @unknown default: (sx, sy) = (x, y)
                }
                for c in 0..<Raster.channels {
                    out[(y * w + x) * Raster.channels + c] = rgba[(sy * width + sx) * 4 + c]
                }
            }
        }
        return Raster(width: w, height: h, pixels: out)
    }

    /// The part of the picture that the model sees, at the size at which it sees it.
    static func fit(_ raster: Raster, _ feeding: Plan.Feeding) -> Raster {
        let resampler = Resampler(filter: Resampler.Filter(feeding.interpolation))
        let (width, height) = (feeding.width, feeding.height)
        if feeding.squash { return resampler.resize(raster, width: width, height: height) }
        let (w, h) = (raster.width, raster.height)
        let scaled: (width: Int, height: Int)
        if let short = feeding.resizeTo {
            let long = Int(Double(short * max(w, h)) / Double(min(w, h)))
            scaled = w <= h ? (short, long) : (long, short)
        } else {
            let ratio = max(Double(width) / Double(w), Double(height) / Double(h))
            scaled = (max(width, Int((Double(w) * ratio).rounded(.toNearestOrEven))),
                      max(height, Int((Double(h) * ratio).rounded(.toNearestOrEven))))
        }
        let left = Int((Double(scaled.width - width) / 2).rounded(.toNearestOrEven))
        let top = Int((Double(scaled.height - height) / 2).rounded(.toNearestOrEven))
        return resampler.resize(raster, width: scaled.width, height: scaled.height)
            .cropped(left: left, top: top, width: width, height: height)
    }

    /// What the model is given for a raster of the model's own size: a pixel buffer, or numbers.
    static func feature(_ raster: Raster, _ plan: Plan) throws -> MLFeatureValue {
        plan.input.isImage ? MLFeatureValue(pixelBuffer: try buffer(raster, plan.input.colour))
                           : MLFeatureValue(multiArray: try array(raster, plan))
    }

    private static func buffer(_ raster: Raster, _ colour: Plan.Colour) throws -> CVPixelBuffer {
        let gray = colour == .gray
        let format = gray ? kCVPixelFormatType_OneComponent8 : kCVPixelFormatType_32BGRA
        var made: CVPixelBuffer?
        CVPixelBufferCreate(nil, raster.width, raster.height, format,
                            [kCVPixelBufferIOSurfacePropertiesKey: [:]] as CFDictionary, &made)
        guard let buffer = made else { throw Failure("There is no memory for the picture.") }
        CVPixelBufferLockBaseAddress(buffer, [])
        defer { CVPixelBufferUnlockBaseAddress(buffer, []) }
        guard let base = CVPixelBufferGetBaseAddress(buffer)?.assumingMemoryBound(to: UInt8.self) else {
            throw Failure("The picture's memory cannot be written.")
        }
        let stride = CVPixelBufferGetBytesPerRow(buffer)
        for y in 0..<raster.height {
            for x in 0..<raster.width {
                let from = (y * raster.width + x) * Raster.channels
                let (r, g, b) = (raster.pixels[from], raster.pixels[from + 1], raster.pixels[from + 2])
                if gray {
                    base[y * stride + x] = luma(r, g, b)
                } else {
                    let to = y * stride + 4 * x
                    (base[to], base[to + 1], base[to + 2], base[to + 3]) = (b, g, r, 255)
                }
            }
        }
        return buffer
    }

    /// ITU-R 601-2 luma in the integers that Pillow uses.
    private static func luma(_ r: UInt8, _ g: UInt8, _ b: UInt8) -> UInt8 {
        UInt8((Int(r) * 19595 + Int(g) * 38470 + Int(b) * 7471 + 0x8000) >> 16)
    }

    private static func array(_ raster: Raster, _ plan: Plan) throws -> MLMultiArray {
        let feeding = plan.feeding
        let kinds: [String: MLMultiArrayDataType] = ["float16": .float16, "float32": .float32, "float64": .double,
                                                     "int32": .int32]
        let array = try MLMultiArray(shape: plan.input.shape.map { NSNumber(value: $0) },
                                     dataType: kinds[plan.input.dtype] ?? .float32)
        let planes = plan.input.colour == .gray ? 1 : Raster.channels
        let area = raster.width * raster.height
        for place in 0..<area {
            let from = place * Raster.channels
            let (r, g, b) = (raster.pixels[from], raster.pixels[from + 1], raster.pixels[from + 2])
            for c in 0..<planes {
                let pixel: UInt8
                switch plan.input.colour {
                case .gray: pixel = luma(r, g, b)
                case .rgb: pixel = [r, g, b][c]
                case .bgr: pixel = [b, g, r][c]
                }
                let mean = feeding.mean[min(c, feeding.mean.count - 1)]
                let std = feeding.std[min(c, feeding.std.count - 1)]
                let value = (Float(pixel) * feeding.scale - mean) / std
                array[feeding.channelsLast ? place * planes + c : c * area + place] = NSNumber(value: value)
            }
        }
        return array
    }

    /// A raster as an image that SwiftUI shows.
    static func image(_ raster: Raster) -> UIImage? {
        let rgba = stride(from: 0, to: raster.pixels.count, by: Raster.channels).flatMap {
            [raster.pixels[$0], raster.pixels[$0 + 1], raster.pixels[$0 + 2], 255]
        }
        guard let provider = CGDataProvider(data: Data(rgba) as CFData), let space = CGColorSpace(name: CGColorSpace.sRGB),
              let image = CGImage(width: raster.width, height: raster.height, bitsPerComponent: 8, bitsPerPixel: 32,
                                  bytesPerRow: raster.width * 4, space: space,
                                  bitmapInfo: CGBitmapInfo(rawValue: CGImageAlphaInfo.noneSkipLast.rawValue),
                                  provider: provider, decode: nil, shouldInterpolate: false, intent: .defaultIntent)
        else { return nil }
        return UIImage(cgImage: image)
    }
}
