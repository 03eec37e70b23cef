// Classify: what a picture shows, as the verification read it.

import CoreGraphics
import Foundation
import ImageIO

/// All classes of one picture, the likeliest first.
public struct Classification: Sendable {
    public struct Entry: Sendable, Identifiable {
        /// The class's number in the model.
        public let index: Int
        public let label: String
        public let probability: Float
        public var id: Int { index }
    }

    public let classes: [Entry]

    /// The likeliest class.
    public var label: String { classes.first?.label ?? "" }
    public var probability: Float { classes.first?.probability ?? 0 }
}

extension Model {
    /// The classes of a picture: `let answer = try await Model().classify(image)`.
    public func classify(_ photo: Photo) async throws -> Classification {
        classification(try await predictor.look(photo.raster).answer)
    }

    public func classify(_ image: CGImage, orientation: CGImagePropertyOrientation = .up) async throws -> Classification {
        try await classify(Photo(image, orientation: orientation))
    }

    public func classify(_ photo: Data) async throws -> Classification {
        try await classify(Photo(photo))
    }

    private func classification(_ answer: Answer) -> Classification {
        Classification(classes: answer.top(answer.scores.count).map {
            Classification.Entry(index: $0.index, label: plan.label($0.index), probability: $0.score)
        })
    }
}
