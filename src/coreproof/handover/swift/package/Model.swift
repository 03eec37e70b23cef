// Model: the model with all that was verified about it: how a picture is turned, cut, scaled and fed.

import CoreGraphics
import CoreML
import CoreVideo
import Foundation
import ImageIO
#if canImport(UIKit)
import UIKit
#endif

/// Opened once and asked from anywhere: `let model = try await Model()`.
public struct Model: Sendable {
    let predictor: Predictor
    let plan: Plan

    /// ``units``: the processors that Core ML may use.
    public init(_ units: MLComputeUnits = .all) async throws {
        let plan = try Plan.load()
        self.plan = plan
        predictor = try await Predictor(plan, units)
    }
}

/// A picture of any size, upright. It is cut and scaled when the model looks at it, to the bit as in the verification.
public struct Photo: Sendable {
    let raster: Raster

    /// ``orientation`` is how the pixels are stored: what a camera or a file says of them.
    public init(_ image: CGImage, orientation: CGImagePropertyOrientation = .up) throws {
        raster = try Picture.raster(image, exif: Int(orientation.rawValue))
    }

    /// A file in memory, JPEG, HEIC, PNG; its own orientation counts.
    public init(_ data: Data) throws {
        raster = try Picture.decode(data)
    }

    /// A file, JPEG, HEIC, PNG; its own orientation counts.
    public init(contentsOf url: URL) throws {
        raster = try Picture.decode(url)
    }

    /// A camera frame, BGRA or 8-bit gray, upright.
    public init(_ frame: CVPixelBuffer) throws {
        guard let raster = Picture.raster(frame) else { throw Failure("The frame is neither BGRA nor 8-bit gray.") }
        self.raster = raster
    }

    #if canImport(UIKit)
    public init(_ image: UIImage) throws {
        guard let pixels = image.cgImage else { throw Failure("The image has no pixels of its own.") }
        let exif: Int
        switch image.imageOrientation {
        case .upMirrored: exif = 2
        case .down: exif = 3
        case .downMirrored: exif = 4
        case .leftMirrored: exif = 5
        case .right: exif = 6
        case .rightMirrored: exif = 7
        case .left: exif = 8
        default: exif = 1
        }
        raster = try Picture.raster(pixels, exif: exif)
    }
    #endif
}
