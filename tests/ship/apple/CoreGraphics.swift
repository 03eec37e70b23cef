// What the app uses of CoreGraphics, ImageIO and CoreVideo, declared so that its sources are type-checked without Apple's SDK.

@_exported import Foundation

public typealias CFURL = URL
public typealias CFData = Data
public typealias CFString = String
public typealias CFDictionary = [String: Any]
public typealias OSType = UInt32

public enum CGColorSpaceModel { case unknown, monochrome, rgb, cmyk, lab, deviceN, indexed, pattern }

public final class CGColorSpace: @unchecked Sendable {
    public static let sRGB: CFString = "sRGB"
    public init?(name: CFString) {}
    public var model: CGColorSpaceModel { .rgb }
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
                 intent: CGColorRenderingIntent) {}
    public var width: Int { 0 }
    public var height: Int { 0 }
    public var colorSpace: CGColorSpace? { nil }
}

public final class CGContext {
    public init?(data: UnsafeMutableRawPointer?, width: Int, height: Int, bitsPerComponent: Int, bytesPerRow: Int,
                 space: CGColorSpace, bitmapInfo: UInt32) {}
    public var interpolationQuality = CGInterpolationQuality.low
    public func draw(_ image: CGImage, in rect: CGRect) {}
}

public final class CGImageSource {}
public let kCGImagePropertyOrientation: CFString = "Orientation"
public func CGImageSourceCreateWithURL(_ url: CFURL, _ options: CFDictionary?) -> CGImageSource? { nil }
public func CGImageSourceCreateWithData(_ data: CFData, _ options: CFDictionary?) -> CGImageSource? { nil }
public func CGImageSourceCreateImageAtIndex(_ source: CGImageSource, _ index: Int, _ options: CFDictionary?) -> CGImage? { nil }
public func CGImageSourceCopyPropertiesAtIndex(_ source: CGImageSource, _ index: Int, _ options: CFDictionary?) -> Any? { nil }

public final class CVPixelBuffer {}
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
                                _ made: UnsafeMutablePointer<CVPixelBuffer?>) -> Int32 { 0 }
@discardableResult
public func CVPixelBufferLockBaseAddress(_ buffer: CVPixelBuffer, _ flags: CVPixelBufferLockFlags) -> Int32 { 0 }
@discardableResult
public func CVPixelBufferUnlockBaseAddress(_ buffer: CVPixelBuffer, _ flags: CVPixelBufferLockFlags) -> Int32 { 0 }
public func CVPixelBufferGetBaseAddress(_ buffer: CVPixelBuffer) -> UnsafeMutableRawPointer? { nil }
public func CVPixelBufferGetBytesPerRow(_ buffer: CVPixelBuffer) -> Int { 0 }
public func CVPixelBufferGetWidth(_ buffer: CVPixelBuffer) -> Int { 0 }
public func CVPixelBufferGetHeight(_ buffer: CVPixelBuffer) -> Int { 0 }
public func CVPixelBufferGetPixelFormatType(_ buffer: CVPixelBuffer) -> OSType { 0 }

public func autoreleasepool<T>(invoking body: () throws -> T) rethrows -> T { try body() }
