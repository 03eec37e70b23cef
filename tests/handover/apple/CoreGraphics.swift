// What the app uses of CoreGraphics, ImageIO and CoreVideo, so that its sources are type-checked and run without Apple's SDK.
//
// A picture's file is accompanied by FILE.raw: width, height, bytes of a pixel and orientation as four 32-bit numbers, then pixels.

@_exported import Foundation

public typealias CFURL = URL
public typealias CFData = Data
public typealias CFString = String
public typealias CFDictionary = [String: Any]
public typealias OSType = UInt32

public enum CGColorSpaceModel { case unknown, monochrome, rgb, cmyk, lab, deviceN, indexed, pattern }

public final class CGColorSpace: @unchecked Sendable {
    public static let sRGB: CFString = "sRGB"
    public init?(name: CFString) { model = .rgb }
    init(_ model: CGColorSpaceModel) { self.model = model }
    public let model: CGColorSpaceModel
    public var baseColorSpace: CGColorSpace? { nil }
}

public struct CGBitmapInfo: OptionSet, Sendable {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }
}

public enum CGImageAlphaInfo: UInt32 { case none, premultipliedLast, premultipliedFirst, last, first, noneSkipLast }
public enum CGColorRenderingIntent { case defaultIntent }
public enum CGInterpolationQuality { case none, low, high }
public final class CGDataProvider { public init?(data: CFData) {} }

public final class CGImage: @unchecked Sendable {
    public init?(width: Int, height: Int, bitsPerComponent: Int, bitsPerPixel: Int, bytesPerRow: Int, space: CGColorSpace,
                 bitmapInfo: CGBitmapInfo, provider: CGDataProvider, decode: UnsafePointer<CGFloat>?, shouldInterpolate: Bool,
                 intent: CGColorRenderingIntent) { fatalError("nothing is shown here") }
    init(_ width: Int, _ height: Int, _ bytes: Int, _ pixels: [UInt8]) {
        (self.width, self.height, self.bytes, self.pixels) = (width, height, bytes, pixels)
    }
    let bytes: Int
    let pixels: [UInt8]
    public let width: Int
    public let height: Int
    public var colorSpace: CGColorSpace? { CGColorSpace(bytes == 1 ? .monochrome : .rgb) }
}

public final class CGContext {
    public init?(data: UnsafeMutableRawPointer?, width: Int, height: Int, bitsPerComponent: Int, bytesPerRow: Int,
                 space: CGColorSpace, bitmapInfo: UInt32) { memory = data }
    private let memory: UnsafeMutableRawPointer?
    public var interpolationQuality = CGInterpolationQuality.low
    public func draw(_ image: CGImage, in rect: CGRect) { memory?.copyMemory(from: image.pixels, byteCount: image.pixels.count) }
}

public final class CGImageSource {
    init(_ raw: Data) { self.raw = raw }
    let raw: Data
    func number(_ place: Int) -> Int {
        Int(raw.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: 4 * place, as: UInt32.self) })
    }
}
public enum CGImagePropertyOrientation: UInt32, Sendable {
    case up = 1, upMirrored, down, downMirrored, leftMirrored, right, rightMirrored, left
}
public let kCGImagePropertyOrientation: CFString = "Orientation"
public func CGImageSourceCreateWithURL(_ url: CFURL, _ options: CFDictionary?) -> CGImageSource? {
    (try? Data(contentsOf: url.appendingPathExtension("raw"))).map(CGImageSource.init)
}
public func CGImageSourceCreateWithData(_ data: CFData, _ options: CFDictionary?) -> CGImageSource? { nil }
public func CGImageSourceCreateImageAtIndex(_ source: CGImageSource, _ index: Int, _ options: CFDictionary?) -> CGImage? {
    CGImage(source.number(0), source.number(1), source.number(2), [UInt8](source.raw.dropFirst(16)))
}
public func CGImageSourceCopyPropertiesAtIndex(_ source: CGImageSource, _ index: Int, _ options: CFDictionary?) -> Any? {
    [kCGImagePropertyOrientation: NSNumber(value: source.number(3))] as [String: Any]
}

public final class CVPixelBuffer {
    public init(_ width: Int, _ height: Int, _ format: OSType) {
        (self.width, self.height, self.format) = (width, height, format)
        // rows are padded, as those of a surface are
        stride = width * (format == kCVPixelFormatType_32BGRA ? 4 : format == kCVPixelFormatType_OneComponent16Half ? 2 : 1) + 12
        memory = UnsafeMutableRawPointer.allocate(byteCount: stride * height, alignment: 64)
        memory.initializeMemory(as: UInt8.self, repeating: 0xAB, count: stride * height)
    }
    deinit { memory.deallocate() }
    public let width, height, stride: Int
    public let format: OSType
    public let memory: UnsafeMutableRawPointer
}
public typealias CVImageBuffer = CVPixelBuffer
public struct CVPixelBufferLockFlags: OptionSet, Sendable {
    public let rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }
    public static let readOnly = CVPixelBufferLockFlags(rawValue: 1)
}
public let kCVPixelFormatType_32BGRA: OSType = 1
public let kCVPixelFormatType_OneComponent8: OSType = 2
public let kCVPixelFormatType_OneComponent16Half: OSType = 3
public let kCVPixelBufferPixelFormatTypeKey: CFString = "format"
public let kCVPixelBufferIOSurfacePropertiesKey: CFString = "surface"
@discardableResult
public func CVPixelBufferCreate(_ allocator: Void?, _ width: Int, _ height: Int, _ format: OSType, _ attributes: CFDictionary?,
                                _ made: UnsafeMutablePointer<CVPixelBuffer?>) -> Int32 {
    made.pointee = CVPixelBuffer(width, height, format)
    return 0
}
@discardableResult
public func CVPixelBufferLockBaseAddress(_ buffer: CVPixelBuffer, _ flags: CVPixelBufferLockFlags) -> Int32 { 0 }
@discardableResult
public func CVPixelBufferUnlockBaseAddress(_ buffer: CVPixelBuffer, _ flags: CVPixelBufferLockFlags) -> Int32 { 0 }
public func CVPixelBufferGetBaseAddress(_ buffer: CVPixelBuffer) -> UnsafeMutableRawPointer? { buffer.memory }
public func CVPixelBufferGetBytesPerRow(_ buffer: CVPixelBuffer) -> Int { buffer.stride }
public func CVPixelBufferGetWidth(_ buffer: CVPixelBuffer) -> Int { buffer.width }
public func CVPixelBufferGetHeight(_ buffer: CVPixelBuffer) -> Int { buffer.height }
public func CVPixelBufferGetPixelFormatType(_ buffer: CVPixelBuffer) -> OSType { buffer.format }

public func autoreleasepool<T>(invoking body: () throws -> T) rethrows -> T { try body() }
