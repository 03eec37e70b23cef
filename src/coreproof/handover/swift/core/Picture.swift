// Picture: files, camera frames and model outputs become rasters, rasters become the model's input and what the screen shows.

import CoreGraphics
import CoreML
import CoreVideo
import Foundation
import ImageIO

enum Picture {
    /// Decodes a file upright over white. Its numbers stay as they are stored: a photo in Display P3 enters the model as in the
    /// verification, which knows no colour profiles either.
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
        return try raster(image, exif: (properties?[kCGImagePropertyOrientation] as? NSNumber)?.intValue ?? 1)
    }

    /// An image turned upright as the EXIF tag (1-8) says.
    static func raster(_ image: CGImage, exif: Int = 1) throws -> Raster {
        try stored(image).upright(exif: exif)
    }

    private static func stored(_ image: CGImage) throws -> Stored {
        let own = image.colorSpace.map { $0.model == .indexed ? $0.baseColorSpace ?? $0 : $0 }
        if let own, own.model == .monochrome, let gray = drawn(image, own, bytes: 1, .none) { return gray }
        if let own, own.model == .rgb, let plain = drawn(image, own, bytes: 4, .noneSkipLast) { return plain }
        guard let space = CGColorSpace(name: CGColorSpace.sRGB), let turned = drawn(image, space, bytes: 4, .noneSkipLast) else {
            throw Failure("The picture cannot be drawn.")
        }
        return turned
    }

    private static func drawn(_ image: CGImage, _ space: CGColorSpace, bytes: Int, _ alpha: CGImageAlphaInfo) -> Stored? {
        let (width, height) = (image.width, image.height)
        var pixels = [UInt8](repeating: 255, count: width * height * bytes)
        let drawn = pixels.withUnsafeMutableBytes { buffer -> Bool in
            // the buffer is white already, so what is transparent becomes white
            guard let context = CGContext(data: buffer.baseAddress, width: width, height: height, bitsPerComponent: 8,
                                          bytesPerRow: width * bytes, space: space, bitmapInfo: alpha.rawValue)
            else { return false }
            context.interpolationQuality = .none
            context.draw(image, in: CGRect(x: 0, y: 0, width: width, height: height))
            return true
        }
        return drawn ? Stored(width: width, height: height, bytes: bytes, pixels: pixels) : nil
    }

    /// The pixels of a camera frame or of a model's image output: BGRA or 8-bit gray.
    static func raster(_ buffer: CVPixelBuffer) -> Raster? {
        let format = CVPixelBufferGetPixelFormatType(buffer)
        guard format == kCVPixelFormatType_32BGRA || format == kCVPixelFormatType_OneComponent8 else { return nil }
        let gray = format == kCVPixelFormatType_OneComponent8
        let (width, height) = (CVPixelBufferGetWidth(buffer), CVPixelBufferGetHeight(buffer))
        var pixels = [UInt8](repeating: 0, count: width * height * Raster.channels)
        let read: Void? = reading(buffer) { base, stride in
            pixels.withUnsafeMutableBufferPointer { out in
                let (step, red, green) = gray ? (1, 0, 0) : (4, 2, 1)
                var (y, next) = (0, 0)
                while y < height {
                    var (x, from) = (0, base + y &* stride)
                    while x < width {
                        (out[next], out[next &+ 1], out[next &+ 2]) = (from[red], from[green], from[0])
                        (x, from, next) = (x &+ 1, from + step, next &+ Raster.channels)
                    }
                    y = y &+ 1
                }
            }
        }
        return read.map { Raster(width: width, height: height, pixels: pixels) }
    }

    /// The numbers of an image output: 8-bit channels, or half floats as they are.
    static func numbers(_ buffer: CVPixelBuffer) -> [Float] {
        if let raster = raster(buffer) { return raster.pixels.map(Float.init) }
        guard CVPixelBufferGetPixelFormatType(buffer) == kCVPixelFormatType_OneComponent16Half else { return [] }
        let (width, height) = (CVPixelBufferGetWidth(buffer), CVPixelBufferGetHeight(buffer))
        return reading(buffer) { base, stride in
            (0..<height).flatMap { y in
                (0..<width).map { x in
                    Half.float(UInt16(base[y * stride + 2 * x]) | UInt16(base[y * stride + 2 * x + 1]) << 8)
                }
            }
        } ?? []
    }

    private static func reading<T>(_ buffer: CVPixelBuffer, _ body: (UnsafePointer<UInt8>, Int) -> T) -> T? {
        CVPixelBufferLockBaseAddress(buffer, .readOnly)
        defer { CVPixelBufferUnlockBaseAddress(buffer, .readOnly) }
        guard let base = CVPixelBufferGetBaseAddress(buffer) else { return nil }
        return body(UnsafePointer(base.assumingMemoryBound(to: UInt8.self)), CVPixelBufferGetBytesPerRow(buffer))
    }

    /// What the model is given for a raster of the model's own size: a pixel buffer, or numbers.
    static func feature(_ raster: Raster, _ picture: Plan.Picture) throws -> MLFeatureValue {
        if picture.isImage { return MLFeatureValue(pixelBuffer: try buffer(raster, picture.colour)) }
        return try Arrays.feature(picture.numbers(raster), shape: picture.shape, dtype: picture.dtype)
    }

    private static func buffer(_ raster: Raster, _ colour: Plan.Colour) throws -> CVPixelBuffer {
        let formats: [Plan.Colour: OSType] = [.gray: kCVPixelFormatType_OneComponent8,
                                              .grayHalf: kCVPixelFormatType_OneComponent16Half]
        // without a surface the pixels would be copied on their way to the GPU and the Neural Engine
        let attributes: [String: Any] = [kCVPixelBufferIOSurfacePropertiesKey as String: [String: Any]()]
        var made: CVPixelBuffer?
        CVPixelBufferCreate(nil, raster.width, raster.height, formats[colour] ?? kCVPixelFormatType_32BGRA,
                            attributes as CFDictionary, &made)
        guard let buffer = made else { throw Failure("There is no memory for the picture.") }
        CVPixelBufferLockBaseAddress(buffer, [])
        defer { CVPixelBufferUnlockBaseAddress(buffer, []) }
        guard let base = CVPixelBufferGetBaseAddress(buffer)?.assumingMemoryBound(to: UInt8.self) else {
            throw Failure("The picture's memory cannot be written.")
        }
        let stride = CVPixelBufferGetBytesPerRow(buffer)
        for y in 0..<raster.height {
            for x in 0..<raster.width {
                let place = y * raster.width + x
                switch colour {
                case .gray:
                    base[y * stride + x] = raster.luma(place)
                case .grayHalf:
                    let bits = Half.bits(Float(raster.luma(place)))
                    (base[y * stride + 2 * x], base[y * stride + 2 * x + 1]) = (UInt8(bits & 0xff), UInt8(bits >> 8))
                case .rgb, .bgr:
                    let (from, to) = (place * Raster.channels, y * stride + 4 * x)
                    (base[to], base[to + 1], base[to + 2], base[to + 3]) =
                        (raster.pixels[from + 2], raster.pixels[from + 1], raster.pixels[from], 255)
                }
            }
        }
        return buffer
    }

    /// A raster as an image that can be shown.
    static func image(_ raster: Raster) -> CGImage? {
        guard let provider = CGDataProvider(data: Data(raster.pixels) as CFData),
              let space = CGColorSpace(name: CGColorSpace.sRGB)
        else { return nil }
        return CGImage(width: raster.width, height: raster.height, bitsPerComponent: 8, bitsPerPixel: 24,
                       bytesPerRow: raster.width * Raster.channels, space: space,
                       bitmapInfo: CGBitmapInfo(rawValue: CGImageAlphaInfo.none.rawValue),
                       provider: provider, decode: nil, shouldInterpolate: false, intent: .defaultIntent)
    }
}
