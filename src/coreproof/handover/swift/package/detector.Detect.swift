// Detect: what is where in a picture, in shares of the picture that was given.

import CoreGraphics
import Foundation
import ImageIO

public struct Detection: Sendable {
    /// The class's number in the model.
    public let index: Int
    public let label: String
    public let confidence: Float
    /// Shares of the upright picture's width and height, from its upper left corner.
    public let box: CGRect
}

extension Model {
    /// What the model finds above ``threshold``, the surest first; of boxes of one class that overlap much, the surest.
    public func detect(_ photo: Photo, threshold: Float = 0.3) async throws -> [Detection] {
        guard let reading = plan.boxes, let picture = plan.picture else { throw Failure("The model finds no boxes.") }
        let outputs = try await predictor.look(photo.raster).answer.outputs
        let found = reading.read(outputs, width: picture.width, height: picture.height, threshold: threshold)
        return found.map { box in
            Detection(index: box.index, label: plan.label(box.index), confidence: box.score,
                      box: picture.place(of: box, in: photo.raster))
        }
    }

    public func detect(
        _ image: CGImage, orientation: CGImagePropertyOrientation = .up, threshold: Float = 0.3
    ) async throws -> [Detection] {
        try await detect(Photo(image, orientation: orientation), threshold: threshold)
    }

    public func detect(_ photo: Data, threshold: Float = 0.3) async throws -> [Detection] {
        try await detect(Photo(photo), threshold: threshold)
    }
}

extension Plan.Picture {
    /// A box of the model's own view as shares of the photo that the view was cut from.
    func place(of box: Box, in photo: Raster) -> CGRect {
        let found = shares(of: box, width: photo.width, height: photo.height)
        return CGRect(x: Double(found.left), y: Double(found.top),
                      width: Double(found.right - found.left), height: Double(found.bottom - found.top))
    }
}
