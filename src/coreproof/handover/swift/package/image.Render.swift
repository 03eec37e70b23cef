// Render: the picture that the model makes of a picture.

import CoreGraphics
import Foundation
import ImageIO

extension Model {
    /// The model's answer as a picture, of the size that the model makes.
    public func render(_ photo: Photo) async throws -> CGImage {
        let answer = try await predictor.look(photo.raster).answer
        let planes = plan.outputs.lazy.compactMap { Planes.picture(answer.outputs[$0.name] ?? [], shape: $0.shape) }
        guard let raster = answer.picture ?? planes.first, let image = Picture.image(raster) else {
            throw Failure("The model's answer is no picture.")
        }
        return image
    }

    public func render(_ image: CGImage, orientation: CGImagePropertyOrientation = .up) async throws -> CGImage {
        try await render(Photo(image, orientation: orientation))
    }

    public func render(_ photo: Data) async throws -> CGImage {
        try await render(Photo(photo))
    }
}
